"""Attention in bfloat16 against float64 on operands rounded alike, with masks, ragged sizes and either order of heads."""

import ml_dtypes
import numpy as np
import pytest
import tvm
from tvm import tirx

from tvm_balanced.compiler.build import build
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.tensors import aligned
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules.attention_bf16 import Bfloat16Attention, attends_in_bfloat16, prim_func, refuses
from tvm_balanced.schedules.tir.prefetch import PREFETCH

HERE = pytest.mark.skipif(not attends_in_bfloat16(host_target()), reason="this CPU has no AVX-512 BF16")
LOW = np.finfo(np.float32).min
POWERS = 2.5e-4  # how far powers, and their sums, are off before they are rounded
TOKENS_FIRST = (True,) * 4


def operands(of, rng):
    shapes = [(of.heads, of.rows, of.depth), (of.matrices, of.length, of.depth), (of.matrices, of.length, of.columns)]
    drawn = (rng.standard_normal(of.shape(first, *shape)) for first, shape in zip(of.tokens_first[:3], shapes, strict=True))
    return [array.astype(np.float32) for array in drawn]


def built(of):
    main = build(prim_func(of).with_attr("global_symbol", "main"), host_target())["main"]

    def run(*arrays):
        y = tvm.runtime.tensor(np.full(of.result_shape, np.nan, np.float32))
        main(*(tvm.runtime.tensor(aligned(array)) for array in arrays), y)
        return turned(y.numpy(), of.tokens_first[3])

    return run


def turned(array, tokens_first):
    return array.transpose(0, 2, 1, 3) if tokens_first else array


def exact(of, q, k, v, mask=0.0):
    """The result in float64 of rounded operands, and the same with |values|: powers are rounded to a 256th at most, the mean of
    many to half of that.
    """
    q, k, v = (turned(a, first) for a, first in zip((q, k, v), of.tokens_first, strict=False))
    q, k, v = (a.astype(ml_dtypes.bfloat16).astype(np.float64) for a in (q * np.float32(of.scale), k, v))
    k, v = (np.repeat(a, of.heads // of.matrices, 1) for a in (k, v))
    scores = q @ k.swapaxes(-1, -2) + mask
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(-1, keepdims=True))
    total = powers.sum(-1, keepdims=True)
    return powers @ v / total, powers @ np.abs(v) / total


CASES = {
    "plain": Bfloat16Attention(1, 2, 16, 32, 32, 32, 2, None, 0.2, False),
    "as a model of sentences has it": Bfloat16Attention(2, 3, 48, 64, 32, 32, 3, (2, 1, 1, 64), 0.2, True, TOKENS_FIRST),
    "ragged": Bfloat16Attention(2, 4, 21, 37, 64, 48, 2, (2, 4, 21, 37), 0.1, False, (True, False, False, True)),
    "a mask for each row": Bfloat16Attention(1, 2, 20, 64, 32, 32, 2, (1, 2, 20, 64), 0.2, False),
    "from memory": Bfloat16Attention(1, 16, 176, 352, 64, 64, 16, (1, 1, 1, 352), 0.1, False, TOKENS_FIRST),
    "one vector of keys": Bfloat16Attention(1, 2, 9, 16, 32, 16, 2, (1, 2, 9, 16), 0.2, False),
    "one key more": Bfloat16Attention(1, 1, 8, 33, 32, 16, 1, None, 0.2, False),
    "several chunks, the last one shorter": Bfloat16Attention(1, 2, 200, 49, 32, 32, 1, (1, 1, 200, 49), 0.2, False),
}


@HERE
@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("name", CASES)
def test_sums_are_those_of_rounded_operands(name, rng):
    of = CASES[name]
    mask = [] if of.mask is None else [np.where(rng.random(of.mask) < 0.3, LOW, rng.standard_normal(of.mask)).astype(np.float32)]
    given = operands(of, rng)
    want, size = exact(of, *given, *mask)
    rounding = 2.0**-9 if of.length > 16 else 2.0**-8
    assert (np.abs(built(of)(*given, *mask) - want) <= (rounding + POWERS) * size + 2e-6).all()


@pytest.fixture(scope="module")
def small():
    of = Bfloat16Attention(1, 3, 19, 45, 32, 32, 3, (1, 1, 19, 45), 64.0, True)
    return of, built(of)


@HERE
def test_the_value_of_the_largest_score_bit_for_bit(small, rng):
    """Whole numbers are exact in bfloat16, and scores that differ by 64 leave one power that is not 0."""
    of, run = small
    q, k = (rng.integers(-9, 10, shape).astype(np.float32) for shape in ((1, 3, 19, 32), (1, 3, 45, 32)))
    v = (rng.standard_normal((1, 3, 45, 32)) * 2.0 ** rng.integers(-9, 9, (1, 3, 45, 1))).astype(np.float32)
    scores = q.astype(np.int64) @ k.astype(np.int64).swapaxes(-1, -2)
    best = scores.argmax(-1)
    alone = (scores == scores.max(-1, keepdims=True)).sum(-1) == 1
    want = np.take_along_axis(v.astype(ml_dtypes.bfloat16).astype(np.float32), best[..., None], 2)
    assert alone.mean() > 0.5
    np.testing.assert_array_equal(run(q, k, v, np.zeros(of.mask, np.float32))[alone], want[alone])


@HERE
def test_a_row_that_is_masked_as_a_whole_and_one_with_nan(small, rng):
    of, run = small
    q, k, v = operands(of, rng)
    mask = np.zeros(of.mask, np.float32)
    mask[..., 2, :], q[0, 1, 5, 3], mask[..., 7, 3:] = -np.inf, np.nan, -np.inf
    got = run(q, k, v, mask)
    assert (got[:, [0, 2], 2] == 0).all()
    assert np.isnan(got[0, 1, 5]).all()
    assert np.isfinite(np.delete(got[0, 1], 5, 0)).all()
    v[0, :, 40] = np.inf  # a power of 0 times infinity is NaN
    assert not np.isfinite(run(q, k, v, mask)).any()


@HERE
def test_the_bits_do_not_depend_on_the_number_of_threads(small, rng):
    of, run = small
    given, mask, found = operands(of, rng), np.zeros(of.mask, np.float32), []
    for threads in (1, 2, 1):
        use_threads(threads)
        found.append(run(*given, mask))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@HERE
def test_products_are_dot_products_of_pairs_that_stay_in_registers():
    of = CASES["plain"]
    lines = build(prim_func(of).with_attr("global_symbol", "main"), host_target()).mod.inspect_source("asm").splitlines()
    assert sum("vdpbf16ps" in line for line in lines) >= 32
    assert not any("vfmadd231ps" in line and "zmm" in line and "1to16" in line for line in lines)  # no product is left in float32


def test_what_comes_from_memory_is_prefetched():
    for name, fetches in {"plain": False, "from memory": True}.items():
        assert (PREFETCH in prim_func(CASES[name]).script()) is fetches


def test_refusals():
    znver4 = tvm.target.Target({"kind": "llvm", "mcpu": "znver4"})
    assert "BF16" in refuses(64, 64, 32, 32, tvm.target.Target({"kind": "llvm", "mcpu": "skylake-avx512"}))
    assert refuses(64, 64, 32, 16, znver4) is None
    assert "columns" in refuses(64, 64, 48, 16, znver4)
    assert "rows" in refuses(4, 64, 32, 32, znver4)


def test_the_function_says_what_it_computes():
    func = prim_func(CASES["ragged"])
    assert isinstance(func, tirx.PrimFunc)
    assert int(func.attrs["estimated_flops"]) == 2 * 2 * 4 * 21 * 37 * (64 + 48)
