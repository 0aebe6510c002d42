import json
import resource
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tvm_balanced.cli.app import run
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.target_features import target_key

KEY = target_key(host_target())
pytestmark = pytest.mark.usefixtures("folder")


def ok(capfd, *arguments):
    assert run(arguments) == 0, capfd.readouterr().err
    return capfd.readouterr().out


@pytest.mark.slow
def test_tune_resume_compile_and_look_at_the_log(capfd, folder):
    options = ("--work-dir", "logs", "--threads", "1", "--strategy", "replay")
    printed = ok(capfd, "tune", "models:pruned", *options, "--trials", "6", "--report", "page.html")
    assert "all trials measured after 6 trials" in printed
    assert "best-so-far" not in printed
    assert (folder / "page.html").stat().st_size > 1000
    result = json.loads(ok(capfd, "tune", "models:pruned", *options, "--trials", "8", "--resume", "--json"))
    assert result["trials"] == 8
    assert {row["kernel"].split()[1] for row in result["kernels"]} == {"48x64", "8x48"}
    assert ok(capfd, "logs", "verify", "logs").strip() == "nothing is wrong"
    rows = json.loads(ok(capfd, "inspect", "models:pruned", "--logs", "logs", "--threads", "1", "--json"))["layers"]
    assert all("user log" in row["schedule"] for row in rows)
    assert {row["schedule"] for row in json.loads(ok(capfd, "inspect", "models:pruned", "--no-logs", "--json"))["layers"]} == {
        "default"
    }
    compiled = json.loads(ok(capfd, "compile", "models:pruned", "-o", "m.tb", "--logs", "logs", "--threads", "1", "--json"))
    assert all("user log" in row["schedule"] for row in compiled["layers"])


def cpu_of_children():
    """Seconds that the processes took which this one has started, and which have ended."""
    taken = resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken.ru_utime + taken.ru_stime


BAD = {
    "shard": (["tune", "models:pruned", "--shard", "x"], 2, "I/N"),
    "shard too large": (["tune", "models:pruned", "--work-dir", "w", "--shard", "3/2"], 2, "shard was 3/2"),
    "strategy": (["tune", "models:pruned", "--work-dir", "w", "--strategy", "magic"], 2, "choose one of"),
    "seed": (["tune", "models:pruned", "--work-dir", "w", "--seed", "-1"], 2, "seed was -1"),
    "a file": (["tune", "models:pruned", "--work-dir", "models.py", "--trials", "1"], 1, "(Not a directory); choose another"),
    "tracker": (["tune", "models:pruned", "--work-dir", "w", "--rpc", "nowhere"], 2, "HOST:PORT"),
    "minutes": (["tune", "models:pruned", "--work-dir", "w", "--minutes", "0"], 2, "minutes was 0"),
    "no logs": (["compile", "models:pruned", "-o", "m.tb", "--logs", "none"], 2, "none is not a folder of tuning logs"),
    "a foreign log": (["compile", "models:pruned", "-o", "m.tb", "--logs", "foreign"], 1, "not a tuning log"),
    "a deep log": (["compile", "models:pruned", "-o", "m.tb", "--logs", "deep"], 1, "not a tuning log"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence(case, capfd, folder):
    arguments, code, message = BAD[case]
    (folder / "foreign" / KEY).mkdir(parents=True)
    (folder / "foreign" / KEY / "log.jsonl").write_text("mine\n")
    (folder / "deep" / KEY).mkdir(parents=True)
    (folder / "deep" / KEY / "log.jsonl").write_text("[" * 100_000)
    assert run(arguments) == code
    captured = capfd.readouterr()
    assert message in " ".join(captured.err.split()).replace("│ ", "")
    assert "Traceback" not in captured.err + captured.out
    assert not (folder / "m.tb").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("tuning")
def test_ctrl_c_ends_within_ten_seconds_and_keeps_what_was_found(folder):
    """Seconds of the CPU: what else runs does not count."""
    command = [sys.executable, "-m", "tvm_balanced", "tune", "models:pruned", "--work-dir", "logs", "--trials", "9999", "--json"]
    options = ("--strategy", "replay", "--threads", "1")
    earlier = cpu_of_children()
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    log = folder / "logs" / KEY / "log.jsonl"
    end = time.monotonic() + 60
    while not (log.exists() and log.read_text().count('"trial"') >= 8) and time.monotonic() < end:
        time.sleep(0.05)
    before = sum(psutil.Process(process.pid).cpu_times()[:2])
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    assert cpu_of_children() - earlier - before < 10
    assert process.returncode == 0
    result = json.loads(printed)
    assert result["ended"] in ("interrupted", "its space is exhausted")
    assert result["trials"] >= 8
    assert run(["logs", "verify", "logs"]) == 0
