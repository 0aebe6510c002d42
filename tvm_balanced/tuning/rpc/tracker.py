"""An RPC tracker and the servers that it assigns: where to measure on other machines, and for how
long we hold a server.
"""

import contextlib
import functools
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tvm import rpc

from tvm_balanced.errors import TuningError, last_line
from tvm_balanced.schedules import Workload
from tvm_balanced.tuning.rpc.server_info import ServerMachine

SESSION_SECONDS = 60  # after which a server ends a session
RENEW_SECONDS = 40.0  # after which a session begins no other measurement
PATIENCE_SECONDS = 30  # to wait for a server if none is there
STOP_PATIENCE_SECONDS = 4  # the same once the run is about to end


@dataclass
class Session:
    """A server that we hold for a while, and the arguments that were uploaded to it."""

    remote: Any
    machine: ServerMachine | None
    began: float
    held: dict[Workload, list[Any]] = field(default_factory=dict)

    def is_old(self) -> bool:
        """Whether the server may end the session during a measurement."""
        return time.monotonic() - self.began > RENEW_SECONDS


@dataclass(frozen=True)
class RpcOptions:
    """Where to measure: an RPC tracker, the key of its servers, and how many to use at once (all by default)."""

    host: str
    port: int
    key: str
    workers: int | None = None

    @classmethod
    def parse(cls, address: str, key: str, workers: int | None = None) -> "RpcOptions":
        """Read HOST:PORT; raises TuningError."""
        host, _, port = address.rpartition(":")
        if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16):
            raise TuningError(
                f'RPC tracker "{address}" is not of the form HOST:PORT; write for instance 127.0.0.1:9190', usage=True
            )
        return cls(host, int(port), key, workers)

    def servers(self) -> int:
        """Return how many servers of the key the tracker knows; raises TuningError if there is no tracker."""
        try:
            socket.create_connection((self.host, self.port), timeout=5).close()  # TVM would try for a minute
            tracker = rpc.TrackerSession((self.host, self.port))
            found = tracker.summary()["server_info"]
            tracker.close()
        except (OSError, RuntimeError, UnicodeError) as error:  # Unicode: a host that cannot be a name, such as "a..b"
            raise TuningError(f"no RPC tracker answers at {self.host}:{self.port} ({last_line(error)}); start one") from None
        return sum(str(server["key"]) == f"server:{self.key}" for server in found)

    def wait_for_servers(self) -> int:
        """Return how many servers of the key there are, once there is one; raises TuningError if
        none comes in time.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while not (servers := self.servers()):
            if time.monotonic() > end:
                raise TuningError(
                    f"the tracker at {self.host}:{self.port} knows no server of key {self.key}; "
                    "start one with tvm-balanced serve-rpc"
                )
            time.sleep(0.5)
        return servers

    @functools.cached_property
    def machine(self) -> ServerMachine | None:
        """What the first free server reported about its machine; None if it does not report it."""
        self.wait_for_servers()
        return self.connect_soon(lambda: False).machine

    def connect(self, seconds: float = SESSION_SECONDS) -> Session:
        """Request a server from the tracker for so long, and wait until one is free."""
        tracker = rpc.TrackerSession((self.host, self.port))
        remote = tracker.request(self.key, session_timeout=seconds, max_retry=1)
        tracker.close()
        return Session(remote, ServerMachine.of(remote), time.monotonic())

    def connect_soon(self, stop: Callable[[], bool], seconds: float = SESSION_SECONDS) -> Session:
        """Connect, but wait at most PATIENCE_SECONDS for a free server, and less if the run is about to end.

        Raises
        ------
        TuningError
            If no server was free in time.
        """
        sessions: queue.SimpleQueue[Session | Exception] = queue.SimpleQueue()

        def connect() -> None:
            try:
                sessions.put(self.connect(seconds))
            except Exception as error:  # pass any error of TVM to the waiting thread
                sessions.put(error)

        threading.Thread(target=connect, daemon=True).start()  # TVM's request has no time limit
        began = time.monotonic()
        while time.monotonic() - began < (STOP_PATIENCE_SECONDS if stop() else PATIENCE_SECONDS):
            with contextlib.suppress(queue.Empty):
                session = sessions.get(timeout=0.5)
                if isinstance(session, Exception):
                    raise session
                return session
        raise TuningError(f"no server of key {self.key} is free; wait for those that tune, or start another")
