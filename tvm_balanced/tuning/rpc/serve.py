"""Serve this machine to remote tuners: a tracker and some servers, each a process group that ends
with this process.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tvm_balanced.errors import TuningError, last_line
from tvm_balanced.tuning.rpc.tracker import RpcOptions

TRACKER_PORT, SERVER_PORT = 9190, 9090  # TVM's own; the next free port is used
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass
class Fleet:
    """A tracker, started here or elsewhere, and servers of one key.

    Parameters
    ----------
    tracker : str
        HOST:PORT to pass to `tune --rpc`.
    key : str
    host : str
        Address that the servers listen at.
    servers : list of subprocess.Popen
    """

    tracker: str
    key: str
    host: str
    servers: list["subprocess.Popen[str]"] = field(default_factory=list)

    def revive(self) -> int:
        """Replace each server that has ended; return how many."""
        dead = [server for server in self.servers if server.poll() is not None]
        for server in dead:
            self.servers.remove(server)
            end(server)  # and its session
            self.servers.append(_launch("server", self.host, SERVER_PORT, self.key, self.tracker))
            _port(self.servers[-1])
        return len(dead)


@contextlib.contextmanager
def serve(host: str, key: str, count: int, tracker: str | None = None, port: int = TRACKER_PORT) -> Iterator[Fleet]:
    """Serve this machine while the block runs; all processes have ended after it.

    Parameters
    ----------
    host : str
        Address to listen at. Whoever reaches it can run any code here.
    key : str
        The key that tuners request.
    count : int
        Servers, each for one tuner at a time.
    tracker : str, optional
        HOST:PORT of a running tracker. Without it one is started at `host`, at the first free port
        from `port` on.

    Raises
    ------
    TuningError
        If `host` is no address of this machine, which is wrong usage, a process does not start, or no tracker answers at the
        given address.
    """
    _require_address(host)
    if tracker is not None:
        RpcOptions.parse(tracker, key).servers()  # reports what is wrong with it
    own: list[subprocess.Popen[str]] = []
    fleet = Fleet(tracker or "", key, host)
    try:
        if tracker is None:
            own.append(_launch("tracker", host, port))
            fleet.tracker = f"{host}:{_port(own[0])}"
        # all at once, because each imports TVM first
        fleet.servers += [_launch("server", host, SERVER_PORT, key, fleet.tracker) for _ in range(count)]
        for server in fleet.servers:
            _port(server)
        yield fleet
    finally:
        for process in (*fleet.servers, *own):
            end(process)


def _require_address(host: str) -> None:
    """Raise TuningError unless a server can listen at `host`: a process that cannot says so only when TVM is imported."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # Unicode: a host that cannot be a name, such as "a..b"
        raise TuningError(
            f'host "{host}" is no address of this machine ({last_line(error)}); give 127.0.0.1, or one that it has', usage=True
        ) from None


def _launch(role: str, host: str, port: int, key: str = "", tracker: str = "") -> "subprocess.Popen[str]":
    """Start a process in its own group, without waiting for it."""
    command = [sys.executable, "-m", "tvm_balanced.tuning.rpc.process", role, "--host", host, "--port", str(port)]
    command += ["--parent", str(os.getpid())]
    command += ["--key", key, "--tracker", tracker] if role == "server" else []
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def _port(process: "subprocess.Popen[str]") -> int:
    """Wait until a process listens, and return its port; raises TuningError if it ends instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.strip().isdecimal():
        raise TuningError(f"an RPC process could not start ({process.args!r}); choose another --host or --port")
    return int(line)


def end(process: "subprocess.Popen[str]", patience: float = 5.0) -> None:
    """End a process with its whole group, including a server's session; kill it after `patience` seconds."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def watch(fleet: Fleet, seconds: float = 1.0) -> Iterator[int]:
    """Revive servers for ever; yield how many were restarted each time some were."""
    while True:
        time.sleep(seconds)
        revived = fleet.revive()
        if revived:
            yield revived
