import numpy as np
import tvm
from support.relax_modules import module
from tvm import relax

import tvm_balanced.transform  # noqa: F401 - registers the operators
from tvm_balanced.core.layer_plan import Bucket, buckets_to_attr
from tvm_balanced.ops import packed_dense
from tvm_balanced.runtime.tensors import ALIGNMENT, address_of, empty_aligned, shared, view
from tvm_balanced.transform.align_constants import AlignConstants
from tvm_balanced.transform.fold_constant import fold_constant


def unaligned(*shape):
    raw = empty_aligned((int(np.prod(shape)) + 1,), np.dtype(np.float32))
    raw[:] = np.arange(raw.size)
    constant = relax.const(shared(raw[1:].reshape(shape)))
    assert address_of(constant.value) % ALIGNMENT == 4
    return constant


def constants(mod):
    found = []
    relax.analysis.post_order_visit(mod["main"], lambda e: found.append(e) if isinstance(e, tvm.ir.GenericConst) else None)
    return found


def test_a_constant_that_is_not_aligned_is_copied_once_and_keeps_its_name():
    weight, names = unaligned(3, 40), {}
    names[address_of(weight.value)] = "table"
    mod = AlignConstants(names)(module(lambda b, x: relax.op.add(b.emit(relax.op.add(x, weight)), weight), (3, 40)))
    first, second = constants(mod)
    assert first.value.same_as(second.value)
    assert address_of(first.value) % ALIGNMENT == 0
    assert names[address_of(first.value)] == "table"
    np.testing.assert_array_equal(view(first.value), view(weight.value))


def test_weights_of_dense_operators_and_aligned_constants_stay():
    weight, aligned = unaligned(24, 40), relax.const(np.ones((3, 24), np.float32))

    def build(b, x):
        return relax.op.add(b.emit(packed_dense(x, weight, buckets=buckets_to_attr([Bucket("cpu_dense")]), layer="fc")), aligned)

    found = constants(AlignConstants({})(module(build, (3, 40))))
    assert {address_of(constant.value) for constant in found} == {address_of(weight.value), address_of(aligned.value)}


def test_what_is_folded_is_aligned_first_and_the_rest_stays():
    folded, other = unaligned(3, 40), unaligned(3, 40)

    def build(b, x):
        made = b.emit(relax.op.negative(b.emit(relax.op.multiply(folded, relax.const(2.0)))))
        return relax.op.add(b.emit(relax.op.add(x, made)), other)

    mod = AlignConstants({}, folded=True)(relax.transform.LegalizeOps()(module(build, (3, 40))))
    addresses = {address_of(constant.value) for constant in constants(mod)}
    assert [address_of(constant.value) in addresses for constant in (other, folded)] == [True, False]
    values = [view(constant.value) for constant in constants(fold_constant(mod)) if constant.value.shape]
    assert any(np.array_equal(value, -2 * view(folded.value)) for value in values)
