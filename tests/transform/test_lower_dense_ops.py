import numpy as np
import pytest
import tvm
from support import reference
from support.relax_modules import module
from tvm import relax

import tvm_balanced.transform  # noqa: F401 - registers the operators
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.ops import balanced_dense, packed_dense
from tvm_balanced.runtime.tensors import view
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.transform.lower_dense_ops import LowerDenseOps

PATTERN = BalancedPattern(2, 16)


@pytest.fixture
def encoded(rng):
    return encode(reference.balanced(24, 40, PATTERN, rng), PATTERN)


def sparse(encoded, bias=None):
    values, indices = relax.const(encoded.values), relax.const(encoded.indices, "uint8")
    return lambda b, x: balanced_dense(
        x, values, indices, bias, nnz=2, block=16, in_features=40, kernel="cpu_portable", layer="fc", activation="relu"
    )


def test_balanced_dense_becomes_its_kernel(encoded):
    workload = Workload("cpu_portable", 3, 24, 40, 2, 16, activation="relu")

    def after(b, x):
        function = b.add_func(KERNELS["cpu_portable"].prim_func(workload), "cpu_portable")
        kernel = KERNELS["cpu_portable"]
        packed = [relax.const(a, str(a.dtype)) for a in (*kernel.pack(encoded), kernel.pack_bias(np.zeros(24, np.float32)))]
        return relax.call_tir(function, [x, *packed], relax.TensorType((3, 24), "float32"))

    tvm.ir.assert_structural_equal(LowerDenseOps()(module(sparse(encoded), (3, 40))), module(after, (3, 40)))


def test_leading_dimensions_are_flattened_around_the_kernel(encoded):
    text = LowerDenseOps()(module(sparse(encoded), (2, 5, 40))).script()
    assert "R.reshape(x0, R.shape([10, 40]))" in text
    assert "R.shape([2, 5, 24])" in text


def test_calls_that_share_a_weight_share_its_packed_form(encoded):
    layer = sparse(encoded)
    mod = LowerDenseOps()(
        module(lambda b, x: relax.op.add(b.emit(layer(b, x)), b.emit(layer(b, b.emit(relax.op.multiply(x, x))))), (3, 40))
    )
    calls = [b.value for b in mod["main"].body.blocks[0].bindings if getattr(b.value.op, "name", "") == "relax.call_tir"]
    assert len(calls) == 2
    for first, second in zip(calls[0].args[1].fields[1:], calls[1].args[1].fields[1:], strict=True):
        assert first.value.same_as(second.value)
    assert sum(isinstance(f, tvm.tirx.PrimFunc) for f in mod.functions.values()) == 1


def test_packed_constants_are_named_after_their_layer(encoded):
    names = {}
    LowerDenseOps(names)(module(sparse(encoded, relax.const(np.zeros(24, np.float32))), (3, 40)))
    assert sorted(names.values()) == ["fc.bias", "fc.indices", "fc.values"]


def test_each_kernel_gets_the_weight_as_it_wants_it(encoded):
    names, lowered, bias = {}, [], relax.const(np.arange(24, dtype=np.float32))
    values, indices = relax.const(encoded.values), relax.const(encoded.indices, "uint8")
    by_rows = "1 cpu_portable 2:16, 3 cpu_dense, 9 cpu_avx2 4:16"

    def build(b, x):
        return balanced_dense(
            x, values, indices, bias, nnz=2, block=16, in_features=40, kernel="cpu_portable", by_rows=by_rows, layer="fc"
        )

    mod = LowerDenseOps(names, lowered)(module(build, (tvm.tirx.Var("m", "int64"), 40)))
    (call,) = [b.value for b in mod["main"].body.blocks[0].bindings if getattr(b.value.op, "name", "") == "relax.call_tir"]
    assert str(call.args[0].name_hint) == "cpu_portable_or_cpu_dense_or_cpu_avx2"
    weight, bias = encoded.decode(), np.arange(24, dtype=np.float32)
    want = []
    for name, source in (("cpu_portable", encoded), ("cpu_dense", weight), ("cpu_avx2", encode(weight, BalancedPattern(4, 16)))):
        want += [*KERNELS[name].pack(source), KERNELS[name].pack_bias(bias)]
    got = [view(constant.value) for constant in call.args[1].fields[1:]]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(set(names.values())) == len(names) == len(want)
    assert {"fc.values", "fc.cpu_dense.values", "fc.cpu_avx2.bias"} <= set(names.values())
    assert [(entry.layer, entry.workload.kernel, entry.share.rows) for entry in lowered] == [
        ("fc", "cpu_portable", (1, 2)),
        ("fc", "cpu_dense", (3, 8)),
        ("fc", "cpu_avx2", (9, None)),
    ]


def test_a_weight_that_is_no_constant_is_refused(encoded):
    def build(b, x, values):
        return balanced_dense(
            x, values, relax.const(encoded.indices, "uint8"), nnz=2, block=16, in_features=40, kernel="cpu_portable", layer="fc"
        )

    with pytest.raises(ValueError, match="not a constant"):
        LowerDenseOps()(module(build, (3, 40), (24, 3, 2)))


def test_legalize_ops_lowers_too(encoded):
    """So that the operators work in any pipeline, not only ours."""
    mod = relax.transform.LegalizeOps()(module(sparse(encoded), (3, 40)))
    assert "R.balanced_dense" not in mod.script()
    assert "cpu_portable" in mod.script()


def test_packed_dense(rng):
    weight = relax.const(rng.standard_normal((24, 40)).astype(np.float32))
    mod = LowerDenseOps()(module(lambda b, x: packed_dense(x, weight, kernel="cpu_dense", layer="fc"), (3, 40)))
    assert "cpu_dense" in mod.script()
