import numpy as np
import pytest
import torch
import tvm
from support.relax_modules import module
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

import tvm_balanced as tb
from tvm_balanced.runtime.cuda import cubins, nvcc
from tvm_balanced.transform.lift_weights import LiftWeights

LARGE, SMALL = np.ones((16, 16), np.float32), np.ones(4, np.float32)


def lift(mod, names=None):
    """Return the module that the pass makes, and the weights that it lifted."""
    lifting = LiftWeights(names or {})
    return lifting(mod), lifting.weights


@I.ir_module
class Lifted:
    @R.function
    def main(x: R.Tensor((16, 16), "float32"), w: R.Tensor((16, 16), "float32")) -> R.Tensor((16, 16), "float32"):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            y = R.add(x, w)
            z = R.multiply(y, R.const(2.0, "float32"))
            R.output(z)
        return z


@I.ir_module
class LiftedOnce:
    @R.function
    def main(x: R.Tensor((16, 16), "float32"), w: R.Tensor((16, 16), "float32")) -> R.Tensor((16, 16), "float32"):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            y = R.add(x, w)
            z = R.multiply(y, w)
            R.output(z)
        return z


def test_large_constants_become_parameters_and_scalars_stay():
    def build(b, x):
        return relax.op.multiply(b.emit(relax.op.add(x, relax.const(LARGE))), relax.const(2.0, "float32"))

    after, (weight,) = lift(module(build, (16, 16)))
    tvm.ir.assert_structural_equal(after, Lifted)
    np.testing.assert_array_equal(weight.tensor.numpy(), LARGE)


def test_small_constants_stay():
    before = module(lambda b, x: relax.op.add(x, relax.const(SMALL)), (4, 4))
    after, weights = lift(before)
    tvm.ir.assert_structural_equal(after["main"], before["main"].with_attr("num_input", 1))
    assert weights == []


def test_a_constant_that_is_used_twice_is_lifted_once():
    constant = relax.const(LARGE)
    before = module(lambda b, x: relax.op.multiply(b.emit(relax.op.add(x, constant)), constant), (16, 16))
    after, weights = lift(before)
    tvm.ir.assert_structural_equal(after, LiftedOnce)
    assert len(weights) == 1


def test_parameters_are_named():
    constant = relax.const(LARGE)
    address = np.from_dlpack(constant.value).ctypes.data
    before = module(lambda b, x: relax.op.add(x, constant), (16, 16))
    assert [weight.name for weight in lift(before, {address: "layer.values"})[1]] == ["layer.values"]
    assert [weight.name for weight in lift(before)[1]] == ["constant_0"]


@pytest.mark.nvcc
def test_a_layer_that_is_a_number_compiles_for_a_gpu():
    """Kernels call their buffers after the weights, and C knows no name that begins with a digit."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 32)).eval()
    compiled = tb.compile(model, (torch.randn(1, 3, 8, 8),), target="cuda/h200")
    assert any(name.startswith("0") for name, _ in compiled.weights)
    for source in cubins.sources(compiled.executable):
        assert nvcc.ptx(source, "sm_90")
