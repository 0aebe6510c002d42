"""What `python -m benchmarks.torch_compile` wrote, and that it counts what torch and the backend do."""

from types import SimpleNamespace

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


def row(model, p50):
    return {
        "model": model,
        "rounds": 31,
        "us": "12.0",
        "compile_us": "10.0",
        "p20": "1.0",
        "p50": p50,
        "p80": "2.0",
        "others": "0",
        "unguarded": "1.0",
    }


def test_times_beside_compile_go_on_where_the_minutes_ended(tmp_path, monkeypatch, capsys):
    clock = iter([0, *(20 * place for place in range(100))])  # each model takes 20 seconds
    monkeypatch.setattr(compiled, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(compiled, "time_of", lambda name, _seconds: row(name, "1.25" if name == "b" else "1.05"))
    compiled.beside_compile(["a", "b", "c"], 1, 1.0, False, tmp_path / "times.csv")
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said[:2]] == ["a", "b"]
    assert said[2:] == [
        "not timed within 1 minutes: c; call this again for them",
        "2 models beside tb.compile: 1.146 in the mean, 1 take more than 1.1 times: b 1.250; the most is b with 1.250",
        "2 models beside tb.compile, guards skipped: 1.000 in the mean, none takes more than 1.1 times; the most is a with 1.000",
    ]
    compiled.beside_compile(["a", "c"], 1, 1.0, False, tmp_path / "times.csv")
    assert list(compiled.read(tmp_path / "times.csv")) == ["a", "b", "c"]


def test_the_models_that_are_timed_have_a_real_size_and_something_compiled():
    names = compiled.timed()
    assert {"BERT", "Llama", "T5", "ViT", "Transformer", "Conv1d"} <= set(names)
    assert not {"LSTM", "GRU", "ResNet"} & set(names)
