"""What `python -m benchmarks.torch_compile` wrote, and that it counts what torch and the backend do."""

import pytest

from benchmarks import torch_compile as compiled

ROWS = compiled.read()


def test_every_model_has_a_row_and_equal_results():
    assert list(ROWS) == compiled.names()
    assert len(ROWS) >= 40
    assert [name for name, row in ROWS.items() if not float(row["difference"]) <= compiled.LIMIT] == []
    assert [name for name, row in ROWS.items() if int(row["fell_back"]) and not row["reason"]] == []
    assert [name for name, row in ROWS.items() if not int(row["compiled"])] == ["LSTM", "LSTM, both ways", "GRU"], (
        "torch's choice"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a break between layers"])
def test_a_row_is_as_it_was_written(name):
    row = compiled.row_of(name)
    assert {key: str(value) for key, value in row.items() if key != "difference"} | {
        "difference": ROWS[name]["difference"]
    } == ROWS[name]
    assert (row["graphs"], row["breaks"], row["compiled"], row["fell_back"]) == (2, 2, 2, 0)


def test_a_result_that_differs_is_seen():
    import torch

    x = torch.ones(3)
    assert compiled._difference({"y": x * 1.5, "n": None}, {"y": x, "n": None}) == 0.5
    with pytest.raises(ValueError, match="zip"):
        compiled._difference((x, x), (x,))
