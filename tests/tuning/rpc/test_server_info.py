from dataclasses import replace

import pytest
import tvm_ffi

from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.errors import TuningError
from tvm_balanced.runtime.host import cores, host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.tuning.rpc import server_info
from tvm_balanced.tuning.rpc.server_info import NAME, ServerMachine


class Ours:
    def get_function(self, name):
        return tvm_ffi.get_global_func(name)


class TvmsOwn:
    def get_function(self, name):
        raise AttributeError(f"no function {name}")


def test_a_server_tells_of_its_machine():
    server_info.offer()
    assert ServerMachine.of(Ours()) == ServerMachine.here()
    assert ServerMachine.here().key == target_key(host_target())
    tvm_ffi.registry.remove_global_func(NAME)


def test_tvm_s_own_server_does_not():
    assert ServerMachine.of(TvmsOwn()) is None


def test_what_would_not_hold_is_refused():
    here = ServerMachine.here()
    here.check(host_target(), cores())
    with pytest.raises(TuningError, match=r"the server is a .* and the target a llvm-x86_64-haswell, for which"):
        here.check(parse_target("cpu/haswell"), 1)
    with pytest.raises(TuningError, match="the server has 2 cores and threads was 3; give at most 2"):
        replace(here, cores=2).check(host_target(), 3)
