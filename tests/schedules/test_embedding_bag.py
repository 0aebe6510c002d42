"""Embedding bags beside NumPy in float64: each mode, half precision, padding, weights, and offsets that are no good."""

import ml_dtypes
import numpy as np
import pytest
import tvm
from tvm import tirx

from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.tensors import aligned
from tvm_balanced.schedules.embedding_bag import MAX, MEAN, SUM, EmbeddingBag, prim_func

ROWS = 20
OFFSETS = np.array([0, 0, 4, 5, 9], np.int64)  # the first bag is empty
PLACES = np.array([3, 7, 7, 19, 3, 0, 3, 11, 1, 3, 3], np.int64)


def bags(table, places, offsets, weights, *, mode, padding, ends):
    """In float64, rows added one after the other."""
    last = len(offsets) - 1 if ends else len(offsets)
    y = np.zeros((last, table.shape[1]))
    for bag in range(last):
        end = offsets[bag + 1] if bag + 1 < len(offsets) else len(places)
        rows = [table[p].astype(np.float64) * w for p, w in zip(places, weights, strict=True)][offsets[bag] : end]
        rows = [row for row, place in zip(rows, places[offsets[bag] : end], strict=True) if place != padding]
        if rows:
            y[bag] = {SUM: np.sum, MEAN: np.mean, MAX: np.max}[mode](rows, axis=0)
    return y


def run(of, *operands, bags):
    func = prim_func(of)
    with host_target():
        module = tvm.compile(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}), host_target())
    y = tvm.runtime.tensor(np.full((bags, of.table[1]), 7, of.dtype))
    module["main"](*(tvm.runtime.tensor(aligned(a)) for a in operands), y)
    return y.numpy()


@pytest.mark.parametrize(
    ("mode", "columns", "dtype", "padding", "ends", "weighted"),
    [
        (SUM, 50, "float32", -1, False, True),
        (SUM, 256, "float64", 3, True, False),
        (MEAN, 300, "float32", 3, False, False),
        (MEAN, 16, "bfloat16", -1, True, False),
        (MAX, 1, "float32", 3, False, False),
        (MAX, 513, "float16", 7, False, False),
    ],
)
def test_bags(mode, columns, dtype, padding, ends, weighted, rng):
    numpy_dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    table = (rng.standard_normal((ROWS, columns)) - 2).astype(numpy_dtype)  # below 0, so that a maximum does not begin at 0
    weights = rng.standard_normal(len(PLACES)).astype(numpy_dtype) if weighted else np.ones(len(PLACES))
    of = EmbeddingBag(table.shape, len(PLACES), len(OFFSETS), mode, padding, ends, weighted, dtype, "int64")
    want = bags(table, PLACES, OFFSETS, weights, mode=mode, padding=padding, ends=ends)
    got = run(of, table, PLACES, OFFSETS, *([weights] if weighted else []), bags=len(want)).astype(np.float64)
    unit = {"float64": 1e-15, "float32": 1e-6, "float16": 2**-11, "bfloat16": 2**-8}[dtype]
    np.testing.assert_allclose(got, want, rtol=unit, atol=unit)


def test_sizes_that_are_known_only_at_the_call(rng):
    table = rng.standard_normal((ROWS, 8)).astype(np.float32)
    of = EmbeddingBag(table.shape, tirx.Var("p", "int64"), tirx.Var("b", "int64"), SUM, -1, False, False, "float32", "int32")
    places, offsets = PLACES.astype(np.int32), OFFSETS.astype(np.int32)
    want = bags(table, PLACES, OFFSETS, np.ones(len(PLACES)), mode=SUM, padding=-1, ends=False)
    np.testing.assert_allclose(run(of, table, places, offsets, bags=5), want, rtol=1e-6, atol=1e-6)


def test_what_lies_outside_is_nan_and_never_read(rng):
    table = rng.standard_normal((ROWS, 4)).astype(np.float32)
    of = EmbeddingBag(table.shape, 4, 3, SUM, -1, False, False, "float32", "int64")
    y = run(of, table, np.array([1, -1, ROWS, 2]), np.array([0, 1, 3]), bags=3)
    assert np.isnan(y).all(1).tolist() == [False, True, False]
    # offsets before, behind and against the order: what there is of a bag
    y = run(of, table, np.array([1, 2, 3, 4]), np.array([-5, 3, 2]), bags=3)
    np.testing.assert_allclose(y, [table[1:4].sum(0), np.zeros(4), table[3:5].sum(0)], rtol=1e-6, atol=1e-6)


def test_a_maximum_has_nan_as_torch_has_it():
    """Where the first row has it; NaN is not larger than a number."""
    table = np.array([[np.nan], [1.0]], np.float32)
    of = EmbeddingBag(table.shape, 4, 2, MAX, -1, False, False, "float32", "int64")
    assert np.isnan(run(of, table, np.array([0, 1, 1, 0]), np.array([0, 2]), bags=2)).ravel().tolist() == [True, False]
