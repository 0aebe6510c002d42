import json
import signal
import subprocess
import sys
import time

import pytest

from tvm_balanced.cli.app import run
from tvm_balanced.targets import host_target, target_key

KEY = target_key(host_target())
FACTORY = """
import torch, tvm_balanced as tb
def pruned():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 8))
    tb.prune(module, "2:16")
    return module, (torch.randn(4, 64),)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "models.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("models", None)
    return tmp_path


def ok(capfd, *arguments):
    assert run(arguments) == 0, capfd.readouterr().err
    return capfd.readouterr().out


def test_tune_resume_compile_and_look_at_the_log(capfd, folder):
    options = ("--work-dir", "logs", "--threads", "1", "--strategy", "replay")
    printed = ok(capfd, "tune", "models:pruned", *options, "--trials", "6", "--report", "page.html")
    assert "all trials measured after 6 trials" in printed
    assert "best-so-far" not in printed
    assert (folder / "page.html").stat().st_size > 1000
    result = json.loads(ok(capfd, "tune", "models:pruned", *options, "--trials", "8", "--resume", "--json"))
    assert result["trials"] == 8
    assert {row["kernel"].split()[1] for row in result["kernels"]} == {"48x64", "8x48"}
    (listed,) = json.loads(ok(capfd, "logs", "list", "logs", "--json"))
    assert (listed["key"], listed["runs"], listed["trials"]) == (KEY, 1, 8)
    assert KEY in ok(capfd, "logs", "list", "logs")
    winners = json.loads(ok(capfd, "logs", "show", "logs", "--json"))
    assert {winner["workload"]["n"] for winner in winners} == {48, 8}
    assert "48x64" in ok(capfd, "logs", "show", "logs")
    assert ok(capfd, "logs", "verify", "logs").strip() == "nothing is wrong"
    rows = json.loads(ok(capfd, "inspect", "models:pruned", "--logs", "logs", "--threads", "1", "--json"))
    assert all("user log" in row["schedule"] for row in rows)
    assert {row["schedule"] for row in json.loads(ok(capfd, "inspect", "models:pruned", "--no-logs", "--json"))} == {"default"}
    compiled = json.loads(ok(capfd, "compile", "models:pruned", "-o", "m.tb", "--logs", "logs", "--threads", "1", "--json"))
    assert all("user log" in row["schedule"] for row in compiled["layers"])
    assert json.loads(ok(capfd, "logs", "merge", "both", "logs", "--json"))[KEY] > 8
    assert ok(capfd, "logs", "diff", "both", "logs", "--json").strip() == "[]"
    assert "left is both" in ok(capfd, "logs", "diff", "both", "logs")
    assert json.loads(ok(capfd, "logs", "prune", "both", "--json"))["dropped"] >= 8
    assert f"{KEY}: " in ok(capfd, "logs", "merge", "third", "both")
    assert "records dropped" in ok(capfd, "logs", "prune", "third", "--keep-trials")


BAD = {
    "shard": (["tune", "models:pruned", "--shard", "x"], 2, "I/N"),
    "shard too large": (["tune", "models:pruned", "--work-dir", "w", "--shard", "3/2"], 1, "shard was 3/2"),
    "strategy": (["tune", "models:pruned", "--work-dir", "w", "--strategy", "magic"], 1, "choose one of"),
    "seed": (["tune", "models:pruned", "--work-dir", "w", "--seed", "-1"], 1, "seed was -1"),
    "a file": (["tune", "models:pruned", "--work-dir", "models.py", "--trials", "1"], 1, "(Not a directory); choose another"),
    "tracker": (["tune", "models:pruned", "--work-dir", "w", "--rpc", "nowhere"], 1, "HOST:PORT"),
    "minutes": (["tune", "models:pruned", "--work-dir", "w", "--minutes", "0"], 1, "minutes was 0"),
    "no logs": (["logs", "list", "none"], 1, "not a folder of tuning logs"),
    "verify nothing": (["logs", "verify", "."], 1, ""),
    "a foreign log": (["compile", "models:pruned", "-o", "m.tb", "--logs", "foreign"], 1, "not a tuning log"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence(case, capfd, folder):
    arguments, code, message = BAD[case]
    (folder / "foreign" / KEY).mkdir(parents=True)
    (folder / "foreign" / KEY / "log.jsonl").write_text("mine\n")
    assert run(arguments) == code
    captured = capfd.readouterr()
    assert message in " ".join(captured.err.split()).replace("│ ", "")
    assert "Traceback" not in captured.err + captured.out
    assert not (folder / "m.tb").exists()


def test_ctrl_c_ends_within_ten_seconds_and_keeps_what_was_found(folder):
    command = [sys.executable, "-m", "tvm_balanced", "tune", "models:pruned", "--work-dir", "logs", "--trials", "9999", "--json"]
    process = subprocess.Popen([*command, "--strategy", "replay"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    log = folder / "logs" / KEY / "log.jsonl"
    end = time.monotonic() + 60
    while not (log.exists() and log.read_text().count('"trial"') >= 8) and time.monotonic() < end:
        time.sleep(0.05)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=20)
    assert time.monotonic() - start < 10
    assert process.returncode == 0
    result = json.loads(printed)
    assert result["ended"] in ("interrupted", "its space is exhausted")
    assert result["trials"] >= 8
    assert run(["logs", "verify", "logs"]) == 0


def test_serve_rpc_says_what_it_is_and_ends_with_ctrl_c():
    pytest.importorskip("tornado")
    command = [sys.executable, "-m", "tvm_balanced", "serve-rpc", "--key", "box"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # a shell that starts these tests in the background has them, and what they start, ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    line = process.stdout.readline()
    assert "RPC runs uploaded code" in line
    assert "--rpc 127.0.0.1:" in line
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 0
    process.stdout.close()
