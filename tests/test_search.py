import numpy as np
import pytest
import reference
import tvm

from tvm_balanced.encoding import encode
from tvm_balanced.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.search import search
from tvm_balanced.targets import host_target

PATTERN = BalancedPattern(2, 16)
KERNEL = next(k for k in KERNELS.values() if k.name != "cpu_dense" and k.refuses(host_target(), 64, 64, "float32") is None)


@pytest.mark.parametrize("regime", ["hot"])
def test_metaschedule_finds_a_schedule_that_computes_the_same(regime, rng):
    pytest.importorskip("xgboost")
    workload = Workload(KERNEL.name, 16, 128, 64, 2, 16)
    found = search(workload, host_target(), 6, regime=regime)
    assert 0 < len(found.seconds) <= 6
    assert found.seconds == sorted(found.seconds)
    assert found.gain.p20 <= found.gain.p50 <= found.gain.p80
    weight = reference.balanced(128, 64, PATTERN, rng)
    x, y = rng.standard_normal((16, 64)).astype(np.float32), tvm.runtime.tensor(np.zeros((16, 128), np.float32))
    packed = [*KERNEL.pack(encode(weight, PATTERN)), KERNEL.pack_bias(np.zeros(128, np.float32))]
    tvm.compile(found.func, host_target())["main"](*map(tvm.runtime.tensor, (x, *packed)), y)
    assert reference.relative_error(y.numpy(), reference.dense(x, weight)) < 1e-5
