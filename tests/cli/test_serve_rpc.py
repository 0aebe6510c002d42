import signal
import subprocess
import sys

import pytest

from tvm_balanced.cli.app import run

pytest.importorskip("tornado")
pytestmark = pytest.mark.xdist_group("rpc")  # trackers listen on ports


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--tracker", "nowhere"], 2, "is not of the form HOST:PORT"),
        (["--tracker", "127.0.0.1:1"], 1, "no RPC tracker answers at 127.0.0.1:1"),
        (["--host", "203.0.113.7"], 2, 'host "203.0.113.7" is no address of this machine'),
        (["--host", "a..b"], 2, 'host "a..b" is no address of this machine'),
        (["--port", "70000"], 2, "--port"),
    ],
)
def test_a_bad_address_is_named_at_once(arguments, code, message, capfd):
    assert run(["serve-rpc", *arguments]) == code
    captured = capfd.readouterr()
    assert message in " ".join(captured.err.split())
    assert "Traceback" not in captured.err + captured.out


@pytest.mark.slow
def test_it_says_what_it_is_and_ends_with_ctrl_c():
    command = [sys.executable, "-m", "tvm_balanced", "serve-rpc", "--key", "box"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # if a shell starts these tests in the background, they and their children ignore SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    line = process.stdout.readline()
    assert "RPC runs uploaded code" in line
    assert "--rpc 127.0.0.1:" in line
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 0
    process.stdout.close()
