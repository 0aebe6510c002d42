"""How long does it take to inspect BERT-base before anything is compiled? `python -m benchmarks.inspect_time`.

BERT-base from its config, 12 layers of 768 with random weights at 4:16, 128 tokens, one thread, in CPU seconds: as a module, and
as the folder that `save_pretrained` wrote, with the time in which it is read.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel

import tvm_balanced as tb
from tvm_balanced.core.report import Report

TOKENS = 128


def timed(name: str, inspect: Callable[[], Report]) -> Report:
    """Inspect, and print the CPU time and what was found."""
    started = time.process_time()
    report = inspect()
    seconds = time.process_time() - started
    print(f"{name}: {seconds:.1f} CPU seconds, {report.sparse_layers} of {report.total} layers sparse", flush=True)
    return report


def model(**sizes: Any) -> BertModel:
    """Return a pruned BERT, BERT-base unless sizes say otherwise."""
    torch.manual_seed(0)
    bert = BertModel(BertConfig(**sizes)).eval()
    tb.prune(bert, "4:16")
    return bert


def main() -> None:
    """Inspect both, and print the times."""
    torch.set_num_threads(1)
    bert = model()
    ids = torch.arange(TOKENS)[None]
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    timed("BERT-base, a module", lambda: tb.inspect(bert, kwargs=given, threads=1))
    with tempfile.TemporaryDirectory() as folder:
        bert.save_pretrained(folder)
        timed("BERT-base, a folder", lambda: tb.inspect(Path(folder), threads=1))


if __name__ == "__main__":
    main()
