import numpy as np
import pytest
import tvm
from support.relax_modules import module
from tvm import relax

from tvm_balanced.transform.unflatten_matmul import UnflattenMatmul

OP = relax.op


def unflattened(build, *shapes):
    return relax.transform.CanonicalizeBindings()(UnflattenMatmul()(module(build, *shapes)))


def test_views_around_a_batched_matmul_go():
    def flattened(b, x, y):
        left = b.emit(OP.reshape(b.emit(OP.broadcast_to(x, (2, 3, 4, 5))), (6, 4, 5)))
        right = b.emit(OP.reshape(y, (6, 5, 7)))
        return OP.reshape(b.emit(OP.matmul(left, right)), (2, 3, 4, 7))

    shapes = ((2, 3, 4, 5), (2, 3, 5, 7))
    after = module(lambda b, x, y: OP.matmul(x, y, "float32"), *shapes)
    tvm.ir.assert_structural_equal(unflattened(flattened, *shapes), after)


@pytest.mark.parametrize(
    ("left", "right", "flat_left", "flat_right", "result"),
    [
        ((2, 3, 4, 5), (3, 2, 5, 7), (6, 4, 5), (6, 5, 7), (2, 3, 4, 7)),  # other leading dimensions
        ((2, 3, 4, 5), (2, 3, 5, 7), (6, 4, 5), (6, 5, 7), (3, 2, 4, 7)),  # another result
        ((2, 3, 5, 4), (2, 3, 5, 7), (6, 4, 5), (6, 5, 7), (2, 3, 4, 7)),  # the reshape changes the matrices
        ((6, 4, 5), (2, 3, 5, 7), (6, 4, 5), (6, 5, 7), (2, 3, 4, 7)),  # one side never was a stack of stacks
    ],
)
def test_other_views_stay(left, right, flat_left, flat_right, result, rng):
    def build(b, x, y):
        a, c = b.emit(OP.reshape(x, flat_left)), b.emit(OP.reshape(y, flat_right))
        return OP.reshape(b.emit(OP.matmul(a, c)), result)

    before = module(build, left, right)
    after = UnflattenMatmul()(before)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in (left, right)]
    np.testing.assert_array_equal(run(after, arrays), run(before, arrays))
    assert "R.reshape" in after.script()


def run(mod, arrays):
    vm = relax.VirtualMachine(tvm.compile(mod, "llvm"), tvm.cpu())
    return vm["main"](*[tvm.runtime.tensor(a) for a in arrays]).numpy()


def test_a_view_that_changes_nothing_goes():
    def build(b, x):
        return OP.add(b.emit(OP.reshape(x, (3, 4))), x)

    tvm.ir.assert_structural_equal(unflattened(build, (3, 4)), module(lambda b, x: OP.add(x, x), (3, 4)))


def test_symbolic_leading_dimensions():
    n = tvm.tirx.Var("n", "int64")

    def build(b, x, y):
        left, right = b.emit(OP.reshape(x, (n * 3, 4, 5))), b.emit(OP.reshape(y, (n * 3, 5, 7)))
        return OP.reshape(b.emit(OP.matmul(left, right)), (n, 3, 4, 7))

    script = UnflattenMatmul()(module(build, (n, 3, 4, 5), (n, 3, 5, 7))).script()
    assert "R.reshape" not in script


def test_a_product_that_is_read_twice_is_computed_once():
    def build(b, x, y):
        product = b.emit(OP.matmul(b.emit(OP.reshape(x, (6, 4, 5))), b.emit(OP.reshape(y, (6, 5, 7)))))
        return OP.add(b.emit(OP.reshape(product, (2, 3, 4, 7))), b.emit(OP.reshape(b.emit(OP.exp(product)), (2, 3, 4, 7))))

    assert unflattened(build, (2, 3, 4, 5), (2, 3, 5, 7)).script().count("R.matmul") == 1
