import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_balanced.core.ratio import Ratio
from tvm_balanced.schedules import Workload
from tvm_balanced.tuning.log.record import Run, Trial, Winner, from_line, to_line

WORKLOAD = Workload("cpu_avx512", 16, 128, 64, 2, 16, activation="gelu", residual=True)
TRIAL = Trial("a1", 3, WORKLOAD, 2, "f00d", ((1, 8), (2, 4)), 1.25e-5, None, "2026-01-01T00:00:00+00:00")
WINNER = Winner("a1", WORKLOAD, 2, "f00d", ((1, 8), (2, 4)), True, Ratio(1.2, 1.1, 1.3), 1e-7, "2026-01-01T00:00:01+00:00")
RUN = Run("a1", {"trials": 64, "seed": 0}, {"apache-tvm": "0.27"}, "2026-01-01T00:00:00+00:00")
FAILED = replace(TRIAL, seconds=None, error='a "quoted" reason\nof two lines')


@pytest.mark.parametrize("record", [TRIAL, WINNER, RUN, FAILED], ids=["trial", "winner", "run", "failed"])
def test_a_record_is_one_line_that_reads_back(record):
    line = to_line(record)
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert from_line(line) == record


@given(st.floats(1e-9, 1e3), st.lists(st.lists(st.integers(0, 4096), min_size=1, max_size=4), max_size=4))
def test_numbers_read_back_exactly(seconds, decisions):
    trial = replace(TRIAL, seconds=seconds, decisions=tuple(map(tuple, decisions)))
    assert from_line(to_line(trial)) == trial


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "3",
        '{"kind":"other"}',
        '{"kind":"trial"}',
        to_line(TRIAL)[:-30],
        to_line(TRIAL).replace('"cpu_avx512"', "{}"),
    ]
    + [
        json.dumps(json.loads(to_line(TRIAL)) | change)
        for change in ({"workload": 3}, {"decisions": [1]}, {"workload": {"x": 1}})
    ]
    + [
        to_line(replace(TRIAL, workload=replace(TRIAL.workload, **size)))
        for size in ({"m": 0}, {"n": 0}, {"k": -5}, {"nnz": 0}, {"block": 0})
    ],
)
def test_anything_else_is_refused(line):
    with pytest.raises(ValueError, match="no record of a tuning log"):
        from_line(line)
