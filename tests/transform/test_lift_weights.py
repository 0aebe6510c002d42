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
from tvm_balanced.transform.lift_weights import LiftWeights, places_of

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


def two_functions(first, second):
    """A module whose two functions each add constants to x."""
    builder = relax.BlockBuilder()
    for name, constants in (("one", first), ("two", second)):
        x = relax.Var("x", relax.TensorType([16, 16], "float32"))
        with builder.function(name, [x]):
            y = x
            for constant in constants:
                y = builder.emit(relax.op.add(y, constant))
            builder.emit_func_output(y)
    return builder.get()


def test_functions_share_weights_and_take_only_their_own_in_one_order():
    a, b, c = (relax.const(LARGE * factor) for factor in (1, 2, 3))
    mod, weights = lift(two_functions([a, b], [c, b, a]))
    assert [w.functions for w in weights] == [{"one", "two"}, {"one", "two"}, {"two"}]
    assert (places_of(weights, "one"), places_of(weights, "two")) == ((0, 1), (0, 1, 2))
    assert [p.name for p in mod["two"].params] == ["x", "constant_0", "constant_1", "constant_2"]
    assert int(mod["two"].attrs["num_input"]) == 1
    relax.analysis.well_formed(mod)  # raises


def test_what_was_folded_for_each_function_is_one_where_it_is_equal():
    _, weights = lift(two_functions([relax.const(LARGE)], [relax.const(LARGE.copy())]))
    assert [w.functions for w in weights] == [{"one", "two"}]
    _, weights = lift(two_functions([relax.const(LARGE)], [relax.const(LARGE * 2)]))
    assert [w.functions for w in weights] == [{"one"}, {"two"}]


def test_private_functions_keep_their_constants():
    mod = two_functions([relax.const(LARGE)], [relax.const(LARGE)])
    private = mod["two"].without_attr("global_symbol")
    mod.update_func(mod.get_global_var("two"), private)
    lifted, _ = lift(mod)
    assert len(lifted["two"].params) == 1
    assert len(lifted["one"].params) == 2
    assert len(mod["one"].params) == 1  # the module that was given stays as it was
