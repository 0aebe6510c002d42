import pytest

from benchmarks.int8_bound import PAIRS, SLOT_BYTES, compute, int8_bound
from tvm_balanced.compiler.build import build
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_features
from tvm_balanced.schedules.kernels.cpu_avx512_i8 import FEATURES

pytestmark = pytest.mark.skipif(not set(FEATURES) <= host_features(), reason="this CPU has no AVX-512 VBMI and VNNI")
P = BalancedPattern.parse("4:16")


def test_no_permute_leaves_the_loop(monkeypatch):
    built = []
    monkeypatch.setattr("benchmarks.int8_bound.build", lambda *given: built.append(build(*given)) or built[0])
    compute(1, 1000)(0)
    lines = built[0].mod.inspect_source("asm").splitlines()
    assert sum("vpermb" in line for line in lines) >= 8
    assert sum("vpdpbusd" in line for line in lines) >= 8


def test_it_is_longer_for_more_rows_and_reads_the_weight():
    """Wide bounds: the machine may be busy."""
    few, many = (min(float(int8_bound(1024, 1024, m, P, 1)(call)) for call in range(5)) for m in (16, 1024))
    assert 1024 * 1024 // 4 * 1024 // 64 > PAIRS > 1024 * 1024 // 4 * 16 // 64
    assert 8 < many / few < 512
    reading = min(float(int8_bound(4096, 4096, 1, P, 1)(call)) for call in range(5))
    assert 1e9 < 4096 * 4096 / 4 * SLOT_BYTES / reading < 1e12  # bytes a second
