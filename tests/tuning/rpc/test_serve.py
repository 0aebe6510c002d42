import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.rpc_fleet import wait_for_servers

from tvm_balanced.errors import TuningError
from tvm_balanced.tuning.rpc.serve import end, serve
from tvm_balanced.tuning.rpc.tracker import RpcOptions

pytest.importorskip("tornado")
pytestmark = pytest.mark.xdist_group("rpc")  # trackers listen on ports


def alive(process):
    """Whether a process or any of its group is left."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_fleet_serves_is_revived_and_ends_with_all_its_processes():
    with serve("127.0.0.1", "box", 2) as fleet:
        wait_for_servers(fleet, 2)
        assert not any("libtorch" in Path(f"/proc/{server.pid}/maps").read_text() for server in fleet.servers)
        killed, other = fleet.servers
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        wait_for_servers(fleet, 1)
        assert fleet.revive() == 1
        assert fleet.revive() == 0
        wait_for_servers(fleet, 2)
        assert other in fleet.servers
        processes = [killed, *fleet.servers]
    assert not any(map(alive, processes))
    with pytest.raises(TuningError, match="no RPC tracker answers"):
        RpcOptions.parse(fleet.tracker, "box").servers()


PARENT = """
import sys, time
sys.modules["torch"] = None
from tvm import rpc
from tvm_balanced.tuning.rpc.tracker import RpcOptions
from tvm_balanced.tuning.rpc.serve import serve
with serve("127.0.0.1", "box", 1) as fleet:
    options = RpcOptions.parse(fleet.tracker, "box")
    remote = rpc.TrackerSession((options.host, options.port)).request("box", session_timeout=60)
    print(fleet.servers[0].pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_servers_and_their_sessions_end_even_where_their_parent_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    server = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(200):
        try:
            os.killpg(server, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("the server, or a session of it, is still there")


def test_a_place_that_cannot_be_listened_at_is_named():
    with pytest.raises(TuningError, match=r"192\.0\.2\.1. is no address of this machine"), serve("192.0.2.1", "box", 1):
        raise AssertionError


def test_a_process_that_does_not_want_to_end_is_killed():
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, text=True, start_new_session=True)
    process.stdout.readline()
    end(process, patience=0.2)
    assert not alive(process)
