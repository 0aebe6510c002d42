import time

import pytest

from benchmarks import paper
from benchmarks.gpu.device import Absent, Cpu
from benchmarks.gpu.devices import open_device
from benchmarks.gpu.folder import Folder
from benchmarks.paper_cases import CASES, MICRO, Case


def test_the_nearest_sparsity_that_a_kernel_has():
    def pattern(sparsity):
        return paper.nearest(Absent(), (16384, 8196), 1, sparsity).pattern

    assert [pattern(s) for s in (0.5, 0.75, 0.8, 0.875, 0.9, 0.9375, 0.95)] == [
        *("8:16", "4:16", "3:16", "2:16", "2:16", "1:16", "1:16")
    ]


def test_the_papers_numbers_are_its_own():
    assert len(set(map(str, CASES))) == len(CASES)
    lstm = next(case for case in CASES if case.name == "LSTM-1500")
    assert round(lstm.published["dense"] / lstm.published["balanced"], 2) == 2.45
    assert round(sum(c.published["dense"] for c in CASES if "VGG" in c.name)
                 / sum(c.published["balanced"] for c in CASES if "VGG" in c.name), 2) == 3.86  # fmt: skip
    assert MICRO[1][0.875][:2] == (1100, 310)


@pytest.mark.slow
def test_a_case_is_measured_once_and_shown(tmp_path, capsys):
    case = Case("two layers", 2, ((40, 64), (33, 50)), 0.8, 0.4, {"dense": 294.1, "balanced": 120.2, "random": 370.9})
    folder = Folder(tmp_path)
    for _ in range(2):
        assert paper.run(Cpu(), folder, [case], ("eager", "csr", "block", "cusparselt_2:4"), time.time() + 60) == []
    rows = folder.read("paper.csv")
    assert [row["rival"] for row in rows] == ["balanced", "eager", "csr", "block", "cusparselt_2:4"]
    assert {row["sparsity"] for row in rows} == {"0.8125"}
    assert rows[3]["note"] == "at 40%"
    text = paper.write_tables(folder).read_text()
    assert "| two layers | 2 | 80.00% | 3:16 = 81.25% |" in text
    assert "| 120.2 |  | 3.09 |  |" in text  # no baseline here corresponds to the paper's dense one
    assert paper.run(Cpu(), folder, [*CASES], ("eager",), 0.0) == []
    assert "goes on from here" in capsys.readouterr().out


def test_a_case_that_fails_does_not_stop_the_others(tmp_path, capsys, monkeypatch):
    def fails(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(paper, "measure", fails)
    assert paper.run(Absent(), Folder(tmp_path), CASES[:2], (), time.time() + 60) == [
        f"{case}: RuntimeError: no memory" for case in CASES[:2]
    ]
    assert "Nothing yet" in paper.write_tables(Folder(tmp_path)).read_text()


@pytest.mark.slow
@pytest.mark.pocl
def test_the_stand_in_takes_small_layers(tmp_path):
    case = paper.shrunk(CASES[0])
    assert case.layers == ((129, 68),)
    assert paper.run(open_device("stand-in"), Folder(tmp_path), [case], paper.RIVALS_OF["stand-in"], time.time() + 60) == []
    assert {row["gpu"] for row in Folder(tmp_path).read("paper.csv")} == {"stand-in (PoCL)"}
