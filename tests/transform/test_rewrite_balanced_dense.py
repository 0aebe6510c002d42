from dataclasses import replace

import numpy as np
import pytest
import tvm
from support import reference
from support.relax_modules import module
from tvm import relax

import tvm_balanced.transform  # noqa: F401 - registers the operators
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import WeightError
from tvm_balanced.ops import balanced_dense, is_dense_op, packed_dense
from tvm_balanced.selection.kernel_choice import Verdict
from tvm_balanced.transform.lower_dense_ops import shares_of
from tvm_balanced.transform.rewrite_balanced_dense import RewriteBalancedDense

PATTERN = BalancedPattern(2, 16)
SPARSE = Verdict("cpu_portable", PATTERN, "test", "forced")
DENSE = Verdict("cpu_dense", None, "test", "forced")
LEFT = Verdict(None, None, "test", "forced")


def rewritten(mod, verdict, layers=None, names=None):
    return RewriteBalancedDense(lambda layer: verdict, names, layers)(mod)


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
            kernel="cpu_portable",
            layer=name,
        )

    return build


def test_sparse_verdict(weight):
    before, after = module(linear(weight), (3, 40)), module(expected_sparse(weight), (3, 40))
    tvm.ir.assert_structural_equal(rewritten(before, SPARSE), after)


def test_dense_verdict(weight):
    after = module(lambda b, x: packed_dense(x, relax.const(weight), kernel="cpu_dense", layer="dense_0"), (3, 40))
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
    layers = []
    after = rewritten(module(linear(weight), shape), SPARSE, layers)
    tvm.ir.assert_structural_equal(after, module(expected_sparse(weight), shape))
    assert layers[0].layer.m == int(np.prod(shape[:-1]))


def test_symbolic_rows(weight):
    layers = []
    rewritten(module(linear(weight), (tvm.tirx.Var("batch", "int64"), 7, 40)), SPARSE, layers)
    assert layers[0].layer.m is None


def test_the_range_of_rows_is_known(weight):
    layers, batch = [], tvm.tirx.Var("batch", "int64")
    mod = module(linear(weight), (batch, 7, 40))
    RewriteBalancedDense(lambda layer: SPARSE, None, layers)(mod)
    RewriteBalancedDense(lambda layer: SPARSE, None, layers, {"batch": (4, 9)})(mod)
    RewriteBalancedDense(lambda layer: SPARSE, None, layers, {"batch": (0, None)})(mod)
    assert [entry.layer.rows for entry in layers] == [(7, None), (28, 63), (7, None)]


def test_kernels_that_share_the_rows_are_named(weight):
    above = Verdict("cpu_avx2", BalancedPattern(3, 16), "test", "forced")
    verdict = replace(DENSE, last=2, above=replace(SPARSE, last=9, above=above))
    mod = rewritten(module(linear(weight), (tvm.tirx.Var("batch", "int64"), 40)), verdict)
    (call,) = [b.value for b in mod["main"].body.blocks[0].bindings if is_dense_op(b.value)]
    assert call.op.name == "relax.balanced_dense"
    assert (int(call.attrs["nnz"]), int(call.attrs["block"])) == (2, 16)  # of the first that is sparse
    assert str(call.attrs["by_rows"]) == "1 cpu_dense, 3 cpu_portable 2:16, 10 cpu_avx2 3:16"
    assert [(share.workload.kernel, share.workload.pattern.nnz, share.rows) for share in shares_of(call)] == [
        ("cpu_dense", 1, (1, 2)),
        ("cpu_portable", 2, (3, 9)),
        ("cpu_avx2", 3, (10, None)),
    ]


def test_a_shared_weight_is_encoded_once_and_counted(weight):
    constant = relax.const(weight)

    def build(b, x):
        y = b.emit(relax.op.matmul(x, b.emit(relax.op.permute_dims(constant))))
        z = b.emit(relax.op.matmul(b.emit(relax.op.multiply(x, x)), b.emit(relax.op.permute_dims(constant))))
        return relax.op.add(y, z)

    layers = []
    mod = rewritten(module(build, (3, 40)), SPARSE, layers)
    calls = [b.value for b in mod["main"].body.blocks[0].bindings if getattr(b.value.op, "name", "") == "relax.balanced_dense"]
    assert len(calls) == 2
    assert calls[0].args[1].value.same_as(calls[1].args[1].value)
    assert [entry.calls for entry in layers] == [2]


def test_layers_have_the_names_of_the_model(weight):
    constant = relax.const(weight)
    address = np.from_dlpack(constant.value).ctypes.data
    layers = []
    rewritten(
        module(lambda b, x: relax.op.matmul(x, b.emit(relax.op.permute_dims(constant))), (3, 40)), SPARSE, layers, {address: "fc"}
    )
    assert layers[0].layer.name == "fc"


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
