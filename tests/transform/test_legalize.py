import numpy as np
import pytest
import tvm
from relax_modules import module
from tvm import relax

from tvm_balanced.transform.legalize import LEGALIZE


@pytest.mark.parametrize("axis", [-1, 2, 1])
def test_softmax(axis, rng):
    legal = relax.transform.LegalizeOps(LEGALIZE)(module(lambda b, x: relax.op.nn.softmax(x, axis), (3, 5, 33)))
    x = (rng.standard_normal((3, 5, 33)) * 10).astype(np.float32)
    y = relax.VirtualMachine(tvm.compile(legal, "llvm"), tvm.cpu())["main"](tvm.runtime.tensor(x)).numpy()
    wide = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    np.testing.assert_allclose(y, wide / wide.sum(axis, keepdims=True), rtol=5e-6, atol=1e-30)


def test_softmax_divides_once_a_row():
    legal = relax.transform.LegalizeOps(LEGALIZE)(module(lambda b, x: relax.op.nn.softmax(x, -1), (3, 5, 32)))
    assert "softmax_scale" in legal.script()
