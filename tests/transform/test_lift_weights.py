import numpy as np
import pytest
import torch
from support.relax_modules import module
from tvm import relax

import tvm_balanced as tb
from tvm_balanced.runtime.cuda import cubins, nvcc
from tvm_balanced.transform.lift_weights import LiftWeights

LARGE, SMALL = np.ones((16, 16), np.float32), np.ones(4, np.float32)


def lift(build, *shapes, names=None):
    weights = []
    return LiftWeights(names or {}, weights)(module(build, *shapes)), weights


def test_large_constants_become_parameters():
    mod, weights = lift(lambda b, x: relax.op.add(x, relax.const(LARGE)), (16, 16))
    assert len(mod["main"].params) == 2
    assert int(mod["main"].attrs["num_input"]) == 1
    np.testing.assert_array_equal(weights[0].tensor.numpy(), LARGE)
    assert "GenericConst" not in mod.script(show_meta=False)


def test_small_constants_stay():
    mod, weights = lift(lambda b, x: relax.op.add(x, relax.const(SMALL)), (4, 4))
    assert len(mod["main"].params) == 1
    assert weights == []


def test_a_constant_that_is_used_twice_is_lifted_once():
    constant = relax.const(LARGE)
    mod, weights = lift(lambda b, x: relax.op.multiply(b.emit(relax.op.add(x, constant)), constant), (16, 16))
    assert len(weights) == 1
    assert len(mod["main"].params) == 2


def test_parameters_are_named():
    constant = relax.const(LARGE)
    address = np.from_dlpack(constant.value).ctypes.data
    _, weights = lift(lambda b, x: relax.op.add(x, constant), (16, 16), names={address: "layer.values"})
    assert weights[0].name == "layer.values"
    _, weights = lift(lambda b, x: relax.op.add(x, constant), (16, 16))
    assert weights[0].name == "constant_0"


@pytest.mark.nvcc
def test_a_layer_that_is_a_number_compiles_for_a_gpu():
    """Kernels call their buffers after the weights, and C knows no name that begins with a digit."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 32)).eval()
    compiled = tb.compile(model, (torch.randn(1, 3, 8, 8),), target="cuda/h200")
    assert any(name.startswith("0") for name, _ in compiled.weights)
    for source in cubins.sources(compiled.executable):
        assert nvcc.ptx(source, "sm_90")
