import numpy as np
import pytest
import tvm
from support import reference
from support.relax_modules import module
from tvm import relax

import tvm_balanced.transform  # noqa: F401 - registers the operators
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.layer_plan import Bucket, buckets_to_attr
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import RowRange
from tvm_balanced.ops import balanced_dense, packed_dense
from tvm_balanced.runtime.tensors import address_of, view
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.transform.lower_dense_ops import LowerDenseOps

PATTERN = BalancedPattern(2, 16)
PORTABLE = buckets_to_attr([Bucket("cpu_portable", PATTERN)])
DENSE = buckets_to_attr([Bucket("cpu_dense")])


@pytest.fixture
def encoded(rng):
    return encode(reference.balanced(24, 40, PATTERN, rng), PATTERN)


def sparse(encoded, bias=None):
    values, indices = relax.const(encoded.values), relax.const(encoded.indices, "uint8")
    return lambda b, x: balanced_dense(
        x, values, indices, bias, nnz=2, block=16, in_features=40, buckets=PORTABLE, layer="fc", activation="relu"
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
    names, weight, bias = {}, encoded.decode(), np.arange(24, dtype=np.float32)
    parts = [
        Bucket("cpu_portable", PATTERN, RowRange(1, 2)),
        Bucket("cpu_dense", None, RowRange(3, 8)),
        Bucket("cpu_avx2", BalancedPattern(4, 16), RowRange(9)),
    ]

    def build(b, x):
        return packed_dense(x, relax.const(weight), relax.const(bias), buckets=buckets_to_attr(parts), layer="fc", index=7)

    lower = LowerDenseOps(names)
    mod = lower(module(build, (tvm.tirx.Var("m", "int64"), 40)))
    (call,) = [b.value for b in mod["main"].body.blocks[0].bindings if getattr(b.value.op, "name", "") == "relax.call_tir"]
    assert str(call.args[0].name_hint) == "cpu_portable_or_cpu_dense_or_cpu_avx2"
    want = []
    for name, source in (("cpu_portable", encoded), ("cpu_dense", weight), ("cpu_avx2", encode(weight, BalancedPattern(4, 16)))):
        want += [*KERNELS[name].pack(source), KERNELS[name].pack_bias(bias)]
    constants = call.args[1].fields[1:]
    for a, b in zip((view(constant.value) for constant in constants), want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(set(names.values())) == len(names) == len(want)
    assert {"fc.values", "fc.cpu_dense.values", "fc.cpu_avx2.bias"} <= set(names.values())
    (known,) = lower.calls
    assert (known.layer, known.index, known.function) == ("fc", 7, "cpu_portable_or_cpu_dense_or_cpu_avx2")
    assert [(v.workload.kernel, v.rows) for v in known.variants] == [(part.kernel, part.rows) for part in parts]
    assert [address for part in known.weights for address in part] == [address_of(constant.value) for constant in constants]


def test_a_weight_that_is_no_constant_is_refused(encoded):
    def build(b, x, values):
        return balanced_dense(
            x, values, relax.const(encoded.indices, "uint8"), nnz=2, block=16, in_features=40, buckets=PORTABLE, layer="fc"
        )

    with pytest.raises(ValueError, match="not a constant"):
        LowerDenseOps()(module(build, (3, 40), (24, 3, 2)))


def test_legalize_ops_lowers_too(encoded):
    """So that the operators work in any pipeline, not only ours."""
    before = module(sparse(encoded), (3, 40))
    tvm.ir.assert_structural_equal(relax.transform.LegalizeOps()(before), LowerDenseOps()(before))


def test_packed_dense(rng):
    weight = rng.standard_normal((24, 40)).astype(np.float32)
    before = module(lambda b, x: packed_dense(x, relax.const(weight), buckets=DENSE, layer="fc"), (3, 40))

    def after(b, x):
        kernel = KERNELS["cpu_dense"]
        function = b.add_func(kernel.prim_func(Workload("cpu_dense", 3, 24, 40, 1, 1)), "cpu_dense")
        packed = [relax.const(a, str(a.dtype)) for a in (*kernel.pack(weight), kernel.pack_bias(np.zeros(24, np.float32)))]
        return relax.call_tir(function, [x, *packed], relax.TensorType((3, 24), "float32"))

    tvm.ir.assert_structural_equal(LowerDenseOps()(before), module(after, (3, 40)))
