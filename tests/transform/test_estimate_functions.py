import pytest
import tvm
from support.relax_modules import module
from tvm import relax

from tvm_balanced.runtime.host import host_target
from tvm_balanced.transform.estimate_functions import EstimateFunctions

PASSES = (
    relax.transform.LegalizeOps(),
    relax.transform.AnnotateTIROpPattern(),
    relax.transform.FuseOps(),
    relax.transform.FuseTIR(),
    relax.transform.DeadCodeElimination(),
)


def estimated(build, *shapes, sizes=None):
    estimate = EstimateFunctions(sizes)
    before = tvm.transform.Sequential(PASSES)(module(build, *shapes))
    with host_target():
        after = estimate(before)
    tvm.ir.assert_structural_equal(after, before)
    return list(estimate.functions.values())


def matmul(b, x, y):
    return relax.op.matmul(x, y)


def test_a_product_counts_its_multiply_adds_and_its_operands():
    (use,) = estimated(matmul, (8, 32), (32, 64))
    assert (use.calls, use.macs, use.nbytes) == (1, 8 * 32 * 64, 4 * (8 * 32 + 32 * 64 + 8 * 64))
    assert not use.scheduled


def test_calls_of_one_function_are_added():
    def build(b, x, y):
        return relax.op.matmul(b.emit(relax.op.matmul(x, y)), y)

    (use,) = estimated(build, (8, 32), (32, 32))
    assert (use.calls, use.macs) == (2, 2 * 8 * 32 * 32)


@pytest.mark.parametrize("rows", [5, 12])
def test_sizes_that_are_known_at_the_call_are_those_of_the_examples(rows):
    shape = (tvm.tirx.Var("n", "int64"), 32)
    (use,) = estimated(matmul, shape, (32, 64), sizes={"n": rows})
    assert use.macs == rows * 32 * 64


def test_a_lookup_reads_the_rows_that_it_takes():
    def build(b, table):
        return relax.op.take(table, relax.const([1, 2, 7], "int64"), axis=0)

    (use,) = estimated(build, (1000, 16))
    assert use.nbytes <= 4 * 2 * 3 * 16 + 8 * 3
    assert use.macs <= 3 * 16 * 4


def test_a_copy_takes_time_and_a_function_such_as_exp_more_than_an_addition():
    (copy,) = estimated(lambda b, x: relax.op.permute_dims(x), (16, 32))
    (added,) = estimated(lambda b, x: relax.op.add(x, x), (16, 32))
    (power,) = estimated(lambda b, x: relax.op.exp(x), (16, 32))
    assert 0 < copy.macs <= added.macs < power.macs
