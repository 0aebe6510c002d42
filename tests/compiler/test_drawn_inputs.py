import numpy as np
import pytest

from tvm_balanced.compiler.drawn_inputs import drawn_inputs
from tvm_balanced.core.imported_model import ImportedFunction, TensorSpec


def entry(*named, ranges=None, ids=None):
    specs = [TensorSpec(name, shape, str(array.dtype)) for name, shape, array in named]
    return ImportedFunction(specs, [], lambda _: [], [array for *_, array in named], ranges or {}, id_ranges=ids or {})


def drawn(made):
    return dict(drawn_inputs(made))


def test_values_stay_those_of_the_example_in_another_order(rng):
    x = np.abs(rng.standard_normal((4, 8)).astype(np.float32)) + 1
    (other,) = drawn(entry(("x", (4, 8), x)))["other values"]
    np.testing.assert_array_equal(np.sort(other, None), np.sort(x, None))
    assert (other != x).any()


def test_masks_get_padding_and_are_never_all_zero(rng):
    x, mask = rng.standard_normal((3, 16)).astype(np.float32), np.ones((3, 16), np.int64)
    found = drawn(entry(("x", (3, 16), x), ("mask", (3, 16), mask)))
    padded = found["masks with padding"][1]
    assert padded[:, 0].all()
    assert not padded[:, -1].any()
    assert len({int(row.sum()) for row in padded}) == 3
    np.testing.assert_array_equal(found["zeros"][1], mask)
    assert not found["zeros"][0].any()


def test_ids_reach_the_ends_of_their_table():
    found = drawn(entry(("ids", (2, 4), np.ones((2, 4), np.int64) * 7), ids={"ids": (0, 99)}))
    assert (found["the smallest ids"][0] == 0).all()
    assert (found["the largest ids"][0] == 99).all()


@pytest.mark.parametrize(("ranges", "sizes"), [({}, [3, 7]), ({"batch": (4, 6)}, [6]), ({"batch": (1, 4)}, [3])])
def test_other_sizes_are_those_that_are_allowed(ranges, sizes, rng):
    x = rng.standard_normal((4, 8)).astype(np.float32)
    found = drawn(entry(("x", ("batch", 8), x), ("y", (8, "batch"), x.T.copy()), ranges=ranges))
    shapes = [(a.shape, b.shape) for what, (a, b) in found.items() if what.startswith("batch = ")]
    assert shapes == [((size, 8), (8, size)) for size in sizes]


def test_the_same_ones_are_drawn_again(rng):
    x = rng.standard_normal((4, 8)).astype(np.float32)
    first, second = (drawn(entry(("x", ("n", 8), x))) for _ in range(2))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[what][0], second[what][0]) for what in first)


def test_a_single_number_and_an_empty_input_are_no_trouble():
    found = drawn(entry(("x", (), np.float32(3.0).reshape(())), ("y", (0, 4), np.zeros((0, 4), np.float32))))
    assert set(found) == {"other values", "zeros"}
    found = drawn(entry(("x", ("n",), np.ones(3, np.float32)), ("y", (), np.full((), 2, np.int64))))
    assert [y.shape for _, y in found.values()] == [()] * len(found)
