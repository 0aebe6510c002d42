import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.log_records import RUN, TRIAL, WINNER

from tvm_balanced.tuning.log.record import from_line, to_line

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
