import json
from dataclasses import replace

import pytest
from support.log_records import RUN, TRIAL
from support.tuned_logs import KEY, TARGET, WORKLOAD, log_of, winner

from tvm_balanced.cli.app import run
from tvm_balanced.tuning.log import manifest


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with one log of a run, eight trials and two winners."""
    monkeypatch.chdir(tmp_path)
    trials = [replace(TRIAL, number=number) for number in range(1, 9)]
    other = replace(winner(), workload=replace(WORKLOAD, n=48), won=False)
    manifest.write(log_of(tmp_path / "logs", RUN, *trials, winner(), other), TARGET)
    return tmp_path


def ok(capfd, *arguments):
    assert run(["logs", *arguments]) == 0, capfd.readouterr().err
    return capfd.readouterr().out


def test_list(capfd):
    (listed,) = json.loads(ok(capfd, "list", "logs", "--json"))
    assert (listed["key"], listed["runs"], listed["trials"]) == (KEY, 1, 8)
    assert KEY in ok(capfd, "list", "logs")


def test_show(capfd):
    winners = json.loads(ok(capfd, "show", "logs", "--json"))
    assert {winner["workload"]["n"] for winner in winners} == {48, WORKLOAD.n}
    assert f"48x{WORKLOAD.k}" in ok(capfd, "show", "logs")


def test_merge_diff_and_prune(capfd):
    assert json.loads(ok(capfd, "merge", "both", "logs", "--json"))[KEY] == 11
    assert json.loads(ok(capfd, "merge", "both", "logs", "--json"))[KEY] == 0
    assert ok(capfd, "diff", "both", "logs", "--json").strip() == "[]"
    assert ok(capfd, "diff", "both", "logs") == "no winners differ\n"
    assert f"{KEY}: " in ok(capfd, "merge", "third", "both")
    assert "0 records dropped" in ok(capfd, "compact", "third", "--keep-trials")
    assert json.loads(ok(capfd, "compact", "both", "--json"))["dropped"] == 8
    assert set(json.loads(ok(capfd, "list", "both", "--json"))[0].items()) >= {("trials", 0), ("runs", 1)}


def test_diff_of_winners_that_differ(capfd, folder):
    manifest.write(log_of(folder / "less", RUN, winner()), TARGET)
    printed = ok(capfd, "diff", "logs", "less")
    assert "left is logs, right is less" in printed
    assert f"48x{WORKLOAD.k}" in printed


def test_verify_fails_where_something_is_wrong(capfd, folder):
    path = folder / "logs" / KEY / "log.jsonl"
    path.write_bytes(path.read_bytes() + b"not a record\n")
    assert run(["logs", "verify", "logs"]) == 1
    assert "line 13" in " ".join(capfd.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "none"], "none is not a folder of tuning logs"),
        (["list", f"logs/{KEY}"], "is the folder of one target key; name the folder that it is in, logs"),
        (["merge", "both", "none"], "none is not a folder of tuning logs"),
        (["diff", "logs", "none"], "none is not a folder of tuning logs"),
        (["compact", "none"], "none is not a folder of tuning logs"),
    ],
)
def test_bad_input_gets_one_sentence(arguments, message, capfd):
    assert run(["logs", *arguments]) == 2
    captured = capfd.readouterr()
    assert message in " ".join(captured.err.split())
    assert "Traceback" not in captured.err + captured.out


def test_race(capfd):
    (raced,) = json.loads(ok(capfd, "race", "logs", "--json"))
    assert raced["workload"]["n"] == WORKLOAD.n
    assert f"{WORKLOAD.n}x{WORKLOAD.k}" in ok(capfd, "race", "logs") or not raced["won"]
