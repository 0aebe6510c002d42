"""What an RPC server reports about its machine: candidates are compiled for one CPU, and times hold for one."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import tvm
import tvm_ffi

from tvm_balanced.core.caches import last_level_cache
from tvm_balanced.errors import TuningError
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.host import cores, host_target
from tvm_balanced.runtime.target_features import target_key

NAME = "tvm_balanced.machine"  # name of the function that `serve-rpc` adds to TVM's server


@dataclass(frozen=True)
class ServerMachine:
    """A server's target key, the name of its CPU, its cores, and the bytes of its last-level cache."""

    key: str
    device: str
    cores: int
    cache: int

    @classmethod
    def here(cls) -> "ServerMachine":
        """Return this machine."""
        return cls(target_key(host_target()), environment.cpu_name(), cores(), last_level_cache())

    @classmethod
    def of(cls, remote: Any) -> "ServerMachine | None":
        """Return the machine of an RPC session; None if its server is not ours and does not report it."""
        try:
            tell = remote.get_function(NAME)
        except (AttributeError, RuntimeError):
            return None
        return cls(**json.loads(tell()))

    def check(self, target: tvm.target.Target, threads: int) -> None:
        """Raise TuningError if measurements here would not hold for `target`, or for calls on `threads` threads."""
        if self.key != target_key(target):
            raise TuningError(
                f"the server is a {self.key} and the target a {target_key(target)}, for which its times would not hold; "
                "give the server's target, or the key of servers that are the target"
            )
        if threads > self.cores:
            raise TuningError(f"the server has {self.cores} cores and threads was {threads}; give at most {self.cores}")


def offer() -> None:
    """Let sessions of a server in this process, or in a fork of it, query this machine."""
    text = json.dumps(asdict(ServerMachine.here()))
    tvm_ffi.register_global_func(NAME, lambda: text, override=True)
