import pytest
from torch import nn

from benchmarks.recurrent import CASES, Case, measure


@pytest.mark.slow
def test_a_case_has_a_row_for_each_rival():
    rows = measure(Case("small", nn.GRU, 32, 5, bidirectional=True), 0.1)
    assert [(row["rival"], row["steps"]) for row in rows] == [("ours", 5), ("eager", 5), ("bound", 5)]
    assert rows[0]["p50"] == "1.000"
    assert all(float(row["us"]) > 0 for row in rows)


def test_the_papers_layers_are_measured():
    assert {("LSTM-1500", 1500, 35), ("Bi-LSTM-1024", 1024, 200)} <= {(case.name, case.hidden, case.steps) for case in CASES}
