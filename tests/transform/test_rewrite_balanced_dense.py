from dataclasses import replace

import numpy as np
import pytest
import tvm
from support import reference
from support.relax_modules import module
from tvm import relax

import tvm_balanced.transform  # noqa: F401 - registers the operators
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.layer_plan import Bucket, buckets_from_attr, buckets_to_attr
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import RowRange
from tvm_balanced.errors import WeightError
from tvm_balanced.ops import balanced_dense, is_dense_op, packed_dense
from tvm_balanced.runtime.tensors import view
from tvm_balanced.transform.dense_calls import variants_of
from tvm_balanced.transform.rewrite_balanced_dense import RewriteBalancedDense

PATTERN = BalancedPattern(2, 16)
SPARSE, DENSE, LEFT = Bucket("cpu_portable", PATTERN), Bucket("cpu_dense"), Bucket(None)


def planned(mod, buckets, names=None, ranges=None):
    """The module rewritten, and the plans of its layers."""
    rewrite = RewriteBalancedDense(lambda layer: buckets if isinstance(buckets, tuple) else (buckets,), names, ranges)
    return rewrite(mod), rewrite.plans


def rewritten(mod, buckets):
    return planned(mod, buckets)[0]


@pytest.fixture
def weight(rng):
    return reference.balanced(24, 40, PATTERN, rng)


def linear(weight):
    return lambda b, x: relax.op.matmul(x, b.emit(relax.op.permute_dims(relax.const(weight))))


def expected_sparse(weight, name="dense_0"):
    encoded = encode(weight, PATTERN)

    def build(b, x):
        return balanced_dense(
            x,
            relax.const(encoded.values),
            relax.const(encoded.indices, "uint8"),
            nnz=2,
            block=16,
            in_features=40,
            buckets=buckets_to_attr([SPARSE]),
            layer=name,
        )

    return build


def test_sparse_verdict(weight):
    before, after = module(linear(weight), (3, 40)), module(expected_sparse(weight), (3, 40))
    tvm.ir.assert_structural_equal(rewritten(before, SPARSE), after)


def test_dense_verdict(weight):
    after = module(lambda b, x: packed_dense(x, relax.const(weight), buckets=buckets_to_attr([DENSE]), layer="dense_0"), (3, 40))
    tvm.ir.assert_structural_equal(rewritten(module(linear(weight), (3, 40)), DENSE), after)


def test_a_layer_left_to_tvm_is_untouched(weight):
    before = module(linear(weight), (3, 40))
    tvm.ir.assert_structural_equal(rewritten(before, LEFT), before)


@pytest.mark.parametrize(
    "build",
    [
        lambda w: lambda b, x: relax.op.matmul(x, b.emit(relax.op.permute_dims(relax.const(w), [1, 0]))),
        lambda w: lambda b, x: relax.op.matmul(x, relax.const(np.ascontiguousarray(w.T))),
        lambda w: (
            lambda b, x: relax.op.matmul(
                x,
                b.emit(
                    relax.op.permute_dims(b.emit(relax.op.multiply(relax.const(w), relax.const((w != 0).astype(np.float32)))))
                ),
            )
        ),
        lambda w: (
            lambda b, x: relax.op.matmul(
                x, b.emit(relax.op.astype(b.emit(relax.op.permute_dims(relax.const(w.astype(np.float64)))), "float32"))
            )
        ),
    ],
    ids=["axes given", "already transposed, as addmm has it", "times its mask", "cast"],
)
def test_every_way_to_write_a_layer(weight, build):
    tvm.ir.assert_structural_equal(rewritten(module(build(weight), (3, 40)), SPARSE), module(expected_sparse(weight), (3, 40)))


@pytest.mark.parametrize("shape", [(2, 5, 40), (40,), (1, 1, 1, 40)])
def test_any_leading_dimensions(weight, shape):
    after, (plan,) = planned(module(linear(weight), shape), SPARSE)
    tvm.ir.assert_structural_equal(after, module(expected_sparse(weight), shape))
    assert plan.layer.m == int(np.prod(shape[:-1]))


def test_symbolic_rows(weight):
    _, (plan,) = planned(module(linear(weight), (tvm.tirx.Var("batch", "int64"), 7, 40)), SPARSE)
    assert plan.layer.m is None


@pytest.mark.parametrize(
    ("ranges", "rows"),
    [(None, RowRange(7)), ({"batch": (4, 9)}, RowRange(28, 63)), ({"batch": (0, None)}, RowRange(7))],
)
def test_the_range_of_rows_is_known(weight, ranges, rows):
    mod = module(linear(weight), (tvm.tirx.Var("batch", "int64"), 7, 40))
    _, (plan,) = planned(mod, SPARSE, ranges=ranges)
    assert plan.layer.rows == rows


@pytest.mark.parametrize("last", [Bucket("cpu_avx2", BalancedPattern(3, 16)), SPARSE])
def test_kernels_that_share_the_rows_are_named(weight, last):
    """The weight stays dense if one of its kernels is, or if they store several patterns."""
    parts = (replace(DENSE, rows=RowRange(1, 2)), replace(SPARSE, rows=RowRange(3, 9)), replace(last, rows=RowRange(10)))
    mod = rewritten(module(linear(weight), (tvm.tirx.Var("batch", "int64"), 40)), parts)
    (call,) = [b.value for b in mod["main"].body.blocks[0].bindings if is_dense_op(b.value)]
    assert call.op.name == "relax.packed_dense"
    np.testing.assert_array_equal(view(call.args[1].value), weight)
    assert buckets_from_attr(call.attrs["buckets"]) == parts
    assert [(v.workload.kernel, v.workload.pattern.nnz, v.rows) for v in variants_of(call)] == [
        ("cpu_dense", 1, RowRange(1, 2)),
        ("cpu_portable", 2, RowRange(3, 9)),
        (last.kernel, last.pattern.nnz, RowRange(10)),
    ]


def test_kernels_that_store_one_pattern_share_the_encoded_weight(weight):
    parts = (replace(SPARSE, rows=RowRange(1, 4)), Bucket("cpu_avx2", PATTERN, RowRange(5)))
    mod = rewritten(module(linear(weight), (tvm.tirx.Var("batch", "int64"), 40)), parts)
    (call,) = [b.value for b in mod["main"].body.blocks[0].bindings if is_dense_op(b.value)]
    assert call.op.name == "relax.balanced_dense"
    assert buckets_from_attr(call.attrs["buckets"]) == parts


def test_a_shared_weight_is_encoded_once_and_counted(weight):
    constant = relax.const(weight)

    def build(b, x):
        y = b.emit(relax.op.matmul(x, b.emit(relax.op.permute_dims(constant))))
        z = b.emit(relax.op.matmul(b.emit(relax.op.multiply(x, x)), b.emit(relax.op.permute_dims(constant))))
        return relax.op.add(y, z)

    mod, plans = planned(module(build, (3, 40)), SPARSE)
    calls = [b.value for b in mod["main"].body.blocks[0].bindings if getattr(b.value.op, "name", "") == "relax.balanced_dense"]
    assert len(calls) == 2
    assert calls[0].args[1].value.same_as(calls[1].args[1].value)
    assert [plan.calls for plan in plans] == [2]


def test_layers_have_the_names_of_the_model(weight):
    constant = relax.const(weight)
    address = np.from_dlpack(constant.value).ctypes.data
    mod = module(lambda b, x: relax.op.matmul(x, b.emit(relax.op.permute_dims(constant))), (3, 40))
    _, (plan,) = planned(mod, SPARSE, {address: "fc"})
    assert plan.layer.name == "fc"


@pytest.mark.parametrize(
    ("build", "shapes"),
    [
        (lambda b, x, y: relax.op.matmul(x, y), [(3, 4), (4, 5)]),
        (lambda b, x: relax.op.matmul(x, relax.const(np.ones((2, 4, 5), np.float32))), [(2, 3, 4)]),
        (lambda b, x: relax.op.matmul(relax.const(np.ones((5, 3), np.float32)), x), [(3, 4)]),
        (lambda b, x: relax.op.add(x, relax.const(np.ones(4, np.float32))), [(3, 4)]),
    ],
    ids=["two activations", "batched constant", "constant on the left", "not a matmul"],
)
def test_what_is_no_dense_layer_stays(build, shapes):
    before = module(build, *shapes)
    tvm.ir.assert_structural_equal(rewritten(before, SPARSE), before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_names_its_layer(weight, value):
    weight[3, 5] = value
    with pytest.raises(WeightError, match=r"layer dense_0: .* at \(3, 5\)"):
        rewritten(module(linear(weight), (3, 40)), SPARSE)
