"""Serving this machine to tuners elsewhere: a tracker and some servers, each a process group that ends with this one."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tvm_balanced.errors import TuningError

TRACKER_PORT, SERVER_PORT = 9190, 9090  # TVM's own; the next that is free is taken
START_SECONDS = 60.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass
class Fleet:
    """A tracker, its own or another's, and servers of one key.

    Parameters
    ----------
    tracker : str
        HOST:PORT to give to `tune --rpc`.
    key : str
    host : str
        That the servers listen at.
    servers : list of subprocess.Popen
    """

    tracker: str
    key: str
    host: str
    servers: list["subprocess.Popen[str]"] = field(default_factory=list)

    def revive(self) -> int:
        """Start another server for each that has ended; return how many."""
        dead = [server for server in self.servers if server.poll() is not None]
        for server in dead:
            self.servers.remove(server)
            self.servers.append(_start("server", self.host, SERVER_PORT, self.key, self.tracker)[0])
        return len(dead)


@contextlib.contextmanager
def serve(host: str, key: str, count: int, tracker: str | None = None, port: int = TRACKER_PORT) -> Iterator[Fleet]:
    """Serve this machine while the block runs; all processes have ended after it.

    Parameters
    ----------
    host : str
        Address to listen at. Whoever reaches it can run any code here.
    key : str
        What tuners ask for.
    count : int
        Servers, each for one tuner at a time.
    tracker : str, optional
        HOST:PORT of a tracker that runs already; without it one is started at `host`, at the first free port from `port` on.

    Raises
    ------
    TuningError
        Where a process does not start.
    """
    own: list[subprocess.Popen[str]] = []
    fleet = Fleet(tracker or "", key, host)
    try:
        if tracker is None:
            process, bound = _start("tracker", host, port)
            own.append(process)
            fleet.tracker = f"{host}:{bound}"
        for _ in range(count):
            fleet.servers.append(_start("server", host, SERVER_PORT, key, fleet.tracker)[0])
        yield fleet
    finally:
        for process in (*fleet.servers, *own):
            end(process)


def _start(role: str, host: str, port: int, key: str = "", tracker: str = "") -> tuple["subprocess.Popen[str]", int]:
    """Start a process in a group of its own; return it and its port, once it listens."""
    command = [sys.executable, "-m", "tvm_balanced.tuning.rpc_process", role, "--host", host, "--port", str(port)]
    command += ["--key", key, "--tracker", tracker] if role == "server" else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.strip().isdecimal():
        end(process)
        raise TuningError(f"an RPC {role} could not start at {host}:{port}; choose another --host or --port")
    return process, int(line)


def end(process: "subprocess.Popen[str]", number: int = signal.SIGTERM) -> None:
    """End a process with its whole group: a server has a process for its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def watch(fleet: Fleet, seconds: float = 1.0) -> Iterator[int]:
    """Revive servers for ever; yields how many were started anew each time some were."""
    while True:
        time.sleep(seconds)
        revived = fleet.revive()
        if revived:
            yield revived
