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
def test_other_views_stay(left, right, flat_left, flat_right, result):
    def build(b, x, y):
        a, c = b.emit(OP.reshape(x, flat_left)), b.emit(OP.reshape(y, flat_right))
        return OP.reshape(b.emit(OP.matmul(a, c)), result)

    def but_what_changes_nothing(b, x, y):
        a = x if left == flat_left else b.emit(OP.reshape(x, flat_left))
        return OP.reshape(b.emit(OP.matmul(a, b.emit(OP.reshape(y, flat_right)))), result)

    tvm.ir.assert_structural_equal(unflattened(build, left, right), module(but_what_changes_nothing, left, right))


def test_a_view_that_changes_nothing_goes():
    def build(b, x):
        return OP.add(b.emit(OP.reshape(x, (3, 4))), x)

    tvm.ir.assert_structural_equal(unflattened(build, (3, 4)), module(lambda b, x: OP.add(x, x), (3, 4)))


def test_symbolic_leading_dimensions():
    n = tvm.tirx.Var("n", "int64")

    def build(b, x, y):
        left, right = b.emit(OP.reshape(x, (n * 3, 4, 5))), b.emit(OP.reshape(y, (n * 3, 5, 7)))
        return OP.reshape(b.emit(OP.matmul(left, right)), (n, 3, 4, 7))

    shapes = ((n, 3, 4, 5), (n, 3, 5, 7))
    tvm.ir.assert_structural_equal(unflattened(build, *shapes), module(lambda b, x, y: OP.matmul(x, y, "float32"), *shapes))


def test_a_product_that_is_read_twice_is_computed_once():
    def build(b, x, y):
        product = b.emit(OP.matmul(b.emit(OP.reshape(x, (6, 4, 5))), b.emit(OP.reshape(y, (6, 5, 7)))))
        return OP.add(b.emit(OP.reshape(product, (2, 3, 4, 7))), b.emit(OP.reshape(b.emit(OP.exp(product)), (2, 3, 4, 7))))

    shapes = ((2, 3, 4, 5), (2, 3, 5, 7))
    tvm.ir.assert_structural_equal(unflattened(build, *shapes), module(build, *shapes))
