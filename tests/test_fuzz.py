"""What fuzzing kept, and mutations of it for some seconds: a result or one sentence; see support/fuzz_targets.py."""

import time
from pathlib import Path

import numpy as np
import pytest
from support.attacks import damages
from support.fuzz_targets import TARGETS, seeds
from support.sample import NIGHTLY

CORPUS = Path(__file__).parent / "data" / "fuzz"
SECONDS = 2.0 if NIGHTLY else 1.0  # of a reader, on the CPU, besides what fuzzing kept


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_gives_a_result_or_one_sentence(name):
    kept = sorted((CORPUS / name).glob("*"))
    corpus, rng = [*seeds(name), *(path.read_bytes() for path in kept)], np.random.default_rng(0)
    for content in (b"", *corpus):
        TARGETS[name](content)
    end, count = time.process_time() + SECONDS, 0
    while time.process_time() < end:
        content = corpus[int(rng.integers(0, len(corpus)))] or b"0"
        for damaged in damages(content, rng, 4):
            TARGETS[name](damaged)
            count += 1
    assert count > 10
