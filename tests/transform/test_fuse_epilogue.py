import numpy as np
import pytest
import tvm
from support.relax_modules import module
from tvm import relax

import tvm_balanced.transform  # noqa: F401 - registers the operators
from tvm_balanced.core.layer_plan import Bucket, buckets_to_attr
from tvm_balanced.ops import packed_dense
from tvm_balanced.transform.fuse_epilogue import ACTIVATION_OPS, FuseEpilogue

WEIGHT = np.arange(8 * 4, dtype=np.float32).reshape(8, 4)
BIAS = np.arange(8, dtype=np.float32)
BUCKETS = buckets_to_attr([Bucket("cpu_dense")])
ACTIVATIONS = {"relu": relax.op.nn.relu, "gelu": relax.op.nn.gelu, "gelu_tanh": relax.op.nn.gelu_tanh, "silu": relax.op.nn.silu}


def dense(x, bias=None, activation="none", residual=None):
    return packed_dense(x, relax.const(WEIGHT), bias, residual, buckets=BUCKETS, layer="fc", activation=activation)


def fused(build):
    return FuseEpilogue()(module(build, (3, 4)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias_first", [True, False])
def test_bias_and_activation_are_taken_in(activation, bias_first):
    def before(b, x):
        y, bias = b.emit(dense(x)), relax.const(BIAS)
        return ACTIVATIONS[activation](b.emit(relax.op.add(bias, y) if bias_first else relax.op.add(y, bias)))

    after = module(lambda b, x: dense(x, relax.const(BIAS), activation), (3, 4))
    tvm.ir.assert_structural_equal(fused(before), after)


def test_all_activation_operators_are_covered():
    assert set(ACTIVATION_OPS.values()) == set(ACTIVATIONS)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_without_bias(activation):
    after = module(lambda b, x: dense(x, None, activation), (3, 4))
    tvm.ir.assert_structural_equal(fused(lambda b, x: ACTIVATIONS[activation](b.emit(dense(x)))), after)


def unchanged(build):
    before = module(build, (3, 4))
    tvm.ir.assert_structural_equal(FuseEpilogue()(before), before)


def test_a_result_that_is_read_twice_is_not_fused():
    def build(b, x):
        y = b.emit(dense(x))
        return relax.op.add(b.emit(relax.op.nn.relu(y)), y)

    unchanged(build)


def test_addition_after_activation_stays():
    unchanged(lambda b, x: relax.op.add(b.emit(dense(x, None, "relu")), relax.const(BIAS)))


def test_second_bias_stays():
    unchanged(lambda b, x: relax.op.add(b.emit(dense(x, relax.const(BIAS))), relax.const(BIAS)))


def test_second_activation_stays():
    unchanged(lambda b, x: relax.op.nn.relu(b.emit(dense(x, None, "gelu"))))


@pytest.mark.parametrize("other", [np.float32(1), np.ones((2, 3, 8), np.float32), np.ones((3, 1), np.float32)])
def test_what_is_no_bias_stays(other):
    unchanged(lambda b, x: relax.op.add(b.emit(dense(x)), relax.const(other)))


@pytest.mark.parametrize("residual_first", [True, False])
def test_residual_is_taken_in_before_the_activation(residual_first):
    def before(b, x):
        other = b.emit(relax.op.matmul(x, relax.const(WEIGHT.T)))
        y = b.emit(relax.op.add(b.emit(dense(x)), relax.const(BIAS)))
        return relax.op.nn.relu(b.emit(relax.op.add(other, y) if residual_first else relax.op.add(y, other)))

    def after(b, x):
        other = b.emit(relax.op.matmul(x, relax.const(WEIGHT.T)))
        return dense(x, relax.const(BIAS), "relu", other)

    tvm.ir.assert_structural_equal(fused(before), module(after, (3, 4)))


def test_only_one_residual_is_taken_in():
    """Of three layers that are added up, the first takes in the second, and the third what came of that."""

    def before(b, x):
        first, second, third = b.emit(dense(x)), b.emit(dense(x)), b.emit(dense(x))
        return relax.op.add(b.emit(relax.op.add(first, second)), third)

    def after(b, x):
        return dense(x, residual=b.emit(dense(x, residual=b.emit(dense(x)))))

    tvm.ir.assert_structural_equal(fused(before), module(after, (3, 4)))


def test_an_addition_after_the_activation_is_no_residual():
    unchanged(lambda b, x: relax.op.add(b.emit(dense(x, None, "relu")), b.emit(relax.op.matmul(x, relax.const(WEIGHT.T)))))


def test_a_result_added_to_itself_is_computed_once():
    def build(b, x):
        y = b.emit(dense(x))
        return relax.op.add(y, y)

    unchanged(build)
