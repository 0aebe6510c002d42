import numpy as np
import pytest
import tvm
from support.relax_modules import module
from tvm import relax

import tvm_balanced.transform  # noqa: F401 - registers the operators
from tvm_balanced import ops
from tvm_balanced.core.layer_plan import Bucket, buckets_to_attr
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import RowRange
from tvm_balanced.transform import lower_dense_ops

VALUES, INDICES = np.ones((24, 3, 2), np.float32), np.zeros((24, 3, 2), np.uint8)
BUCKETS = buckets_to_attr(
    [Bucket("cpu_portable", BalancedPattern(2, 16), RowRange(1, 4)), Bucket("cpu_dense", None, RowRange(5))]
)
ATTRS = {"nnz": 2, "block": 16, "in_features": 40, "buckets": BUCKETS, "layer": "fc", "index": 3}


def call(x, bias=None, residual=None):
    return ops.balanced_dense(x, relax.const(VALUES), relax.const(INDICES, "uint8"), bias, residual, **ATTRS)


def test_type_is_inferred():
    mod = module(lambda b, x: call(x), (5, 7, 40))
    assert [int(d) for d in mod["main"].ret_ty.shape] == [5, 7, 24]


def test_symbolic_rows_stay_symbolic():
    batch = tvm.tirx.Var("batch", "int64")
    assert str(module(lambda b, x: call(x), (batch, 40))["main"].ret_ty.shape[0]) == "batch"


@pytest.mark.parametrize(("shape", "bias"), [((5, 41), None), ((5, 40), np.ones(23, np.float32))])
def test_wrong_shapes_are_refused(shape, bias):
    with pytest.raises(ValueError, match="weight"):
        module(lambda b, x: call(x, None if bias is None else relax.const(bias)), shape)


def test_printed_script_can_be_parsed_again():
    mod = module(lambda b, x: call(x, relax.const(np.ones(24, np.float32))), (5, 40))
    assert "R.balanced_dense" in mod.script()
    tvm.ir.assert_structural_equal(tvm.script.from_source(mod.script(show_meta=True)), mod)


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_residual_survives_printing(has_bias):
    bias = relax.const(np.ones(24, np.float32)) if has_bias else None
    mod = module(lambda b, x: call(x, bias, relax.const(np.ones((5, 24), np.float32))), (5, 40))
    tvm.ir.assert_structural_equal(tvm.script.from_source(mod.script(show_meta=True)), mod)


def test_registering_twice_does_nothing():
    ops.register(lower_dense_ops.legalize)
    ops.register(lower_dense_ops.legalize)


def test_bias_of():
    x = relax.Var("x", relax.TensorType((5, 40), "float32"))
    bias = relax.const(np.ones(24, np.float32))
    assert ops.bias_of(call(x)) is None
    assert ops.bias_of(call(x, bias)).same_as(bias)
    assert ops.bias_of(call(x, None, x)) is None
    assert ops.residual_of(call(x, bias, x)).same_as(x)
    assert ops.residual_of(call(x, bias)) is None
    assert ops.is_dense_op(call(x))
    assert not ops.is_dense_op(x)
