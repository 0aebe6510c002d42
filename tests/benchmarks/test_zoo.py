"""The zoo that a person can repeat: what its cases are, what a row holds, and what is said of rows."""

import json
import subprocess

import pytest
import torch

from benchmarks import zoo


def row(case, kind, p50, p80, eager_us=2000.0, threads=1):
    times = {"p20": f"{p50 * 0.9:.3f}", "p50": f"{p50:.3f}", "p80": f"{p80:.3f}", "eager_us": f"{eager_us:.1f}"}
    return {"case": case, "kind": kind, "threads": threads, "target": "cpu"} | times


def test_every_kind_has_cases_and_no_case_two():
    assert {zoo.kind_of(name) for name in zoo.names()} == set(zoo.KINDS)
    assert len(set(zoo.names())) == len(zoo.names()) >= 50


def test_slower_is_what_is_slower_at_the_80th_percentile_of_a_millisecond_at_least():
    rows = [row("a", "text", 4.0, 5.0), row("b", "text", 1.0, 1.1), row("c", "text", 0.1, 0.9, eager_us=999.0)]
    rows += [row("d", "vision", 0.9, 0.99), {"case": "e", "kind": "vision", "threads": 1, "target": "cpu", "note": "refused"}]
    assert zoo.summary(rows) == [
        "text, 1 thread, cpu: 2.00 x over 2 cases, none slower",
        "vision, 1 thread, cpu: 0.90 x over 1 cases, slower: d 0.900 (0.810 to 0.990)",
    ]


def test_the_table_has_the_last_row_of_each_setting():
    old, new, both = (row("a", "text", p50, p50, threads=threads) for p50, threads in ((1.0, 1), (4.0, 1), (3.0, 2)))
    refused = row("b", "vision", 1.0, 1.0) | {"p50": "", "note": "refused"}
    table = zoo.table([one | {"us": "500.0"} for one in (old, both, refused, new)])
    assert table[0] == "| case | 1 thread, cpu | 2 threads, cpu |"
    assert table[2:4] == [
        "| text: a | 0.50 ms, 4.0 (3.6 to 4.0) | 0.50 ms, 3.0 (2.7 to 3.0) |",
        "| vision: b | refused | - |",
    ]
    assert table[-1].startswith("text, 2 threads, cpu: 3.00 x over 1 cases")


def test_a_process_that_fails_has_a_note(monkeypatch):
    done = subprocess.CompletedProcess([], 1, "", "first\nMemoryError: gone")
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_kwargs: done)
    found = zoo.measure_apart("LSTM", 1, "cpu", 0.1)
    assert (found["note"], found["kind"]) == ("MemoryError: gone", "recurrent")
    assert set(found) <= set(zoo.COLUMNS)


@pytest.mark.slow
def test_a_case_is_compiled_and_timed(monkeypatch):
    monkeypatch.setitem(zoo.OF_TORCH, "LSTM", ("recurrent", zoo._recurrent(torch.nn.LSTM, 32, 5)))
    found = json.loads(json.dumps(zoo.measure("LSTM", 1, "cpu", 0.05)))
    assert float(found["p20"]) <= float(found["p50"]) <= float(found["p80"])
    assert set(found) | {"date", "cpu", "versions", "others", "note"} == set(zoo.COLUMNS)
    model, _, _ = zoo.made("LSTM")
    assert (model.weight_hh_l0 == 0).float().mean() == 0.75
