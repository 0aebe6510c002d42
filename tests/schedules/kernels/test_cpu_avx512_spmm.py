import re
from unittest.mock import patch

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference
from support.sample import examples

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.kernels import cpu_avx512_spmm
from tvm_balanced.schedules.kernels.cpu_avx512_spmm import KTiles, _size

P = BalancedPattern.parse
KERNEL, AVX512 = KERNELS["cpu_avx512_spmm"], parse_target("cpu/x86-64-v4")


def test_layout_is_the_documented_one(rng):
    """values[t, g, r, q, s] is slot 8 q + s of row 16 g + r in tile t; zero at column 0 if there is
    no such slot or row.
    """
    weight = reference.balanced(40, 300, P("3:16"), rng)
    encoded = reference.encode(weight, P("3:16"))
    values, columns = KERNEL.pack(encoded)
    assert values.shape == (2, 3, 16, 4, 8)  # 19 blocks in tiles of 10; their 30 slots are four octs
    assert (values.dtype, columns.dtype, columns.shape) == (np.float32, np.uint64, (2, 3, 16, 4))
    for row, block, slot in ((0, 0, 0), (17, 6, 2), (39, 9, 1), (20, 18, 0)):
        tile, place = block // 10, block % 10 * 3 + slot
        where = tile, row // 16, row % 16, place // 8
        assert values[(*where, place % 8)] == encoded.values[row, block, slot]
        column = int(columns[where]) >> 8 * (place % 8) & 255
        assert tile * 160 + column == block * 16 + int(encoded.indices[row, block, slot])
    assert not values[:, :, :, 3, 6:].any()
    assert not values[:, 2, 8:].any()
    assert not (columns[:, :, :, 3] >> np.uint64(48)).any()


@pytest.mark.parametrize(
    ("pattern", "k", "tiles"),
    [
        ("2:16", 768, KTiles(3, 16, 256, 4)),
        ("2:16", 1500, KTiles(6, 16, 256, 4)),
        ("1:16", 33, KTiles(1, 3, 48, 1)),
        ("10:50", 500, KTiles(2, 5, 250, 7)),
        ("100:256", 600, KTiles(3, 1, 256, 13)),
        ("2:255", 1000, KTiles(4, 1, 255, 1)),
        ("1:2", 1024, KTiles(4, 128, 256, 16)),
    ],
)
def test_tiles_of_k(pattern, k, tiles):
    assert KTiles.of(P(pattern), k) == tiles
    assert tiles.count * tiles.blocks >= P(pattern).blocks(k)


# Rows of x from one tile to ten: all of it laid out at once, and tile by tile; with padding of every kind
@pytest.mark.slow
@pytest.mark.avx512
@pytest.mark.grid
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("pattern", "n", "k", "m"),
    [
        ("2:16", 48, 384, 32),
        ("4:16", 40, 100, 129),
        ("2:16", 1100, 600, 256),
        ("3:16", 1001, 150, 261),
        ("10:50", 70, 500, 257),
        ("2:255", 33, 600, 300),
        ("1:2", 17, 33, 320),
        ("16:16", 8, 16, 1),
    ],
)
def test_many_rows_of_x(pattern, n, k, m, known, large, rng):
    weight = reference.balanced(n, k, P(pattern), rng)
    bias, x, residual = (rng.standard_normal(shape).astype(np.float32) for shape in ((n,), (m, k), (m, n)))
    want = reference.dense(x, weight, bias, "gelu", residual)
    allowed = reference.allowed_error(x, weight, bias, "gelu", residual)
    with patch.object(cpu_avx512_spmm, "LARGE_BYTES", 0 if large else 1 << 40):
        run = reference.compile_kernel("cpu_avx512_spmm", weight, P(pattern), bias, m if known else None, "gelu", residual=True)
        assert (np.abs(run(x, residual) - want) <= allowed).all()


@pytest.mark.slow
@pytest.mark.avx512
@settings(max_examples=examples(16))
@given(m=st.integers(1, 300), n=st.integers(1, 100), k=st.integers(1, 700), block=st.integers(1, 256), seed=st.integers(0, 9))
def test_any_pattern(m, n, k, block, seed):
    rng = np.random.default_rng(seed)
    pattern = BalancedPattern(int(rng.integers(1, block + 1)), block)
    weight, x = reference.balanced(n, k, pattern, rng), rng.standard_normal((m, k)).astype(np.float32)
    run = reference.compile_kernel("cpu_avx512_spmm", weight, pattern, None, m)
    assert reference.relative_error(run(x), reference.dense(x, weight)) < 1e-5


@pytest.mark.avx512
def test_a_row_of_x_that_is_not_finite_stays_alone(rng):
    """Rows of x share registers, and the last tile computes the last row again."""
    weight = reference.balanced(20, 300, P("3:16"), rng)
    x = rng.standard_normal((40, 300)).astype(np.float32)
    x[7] = np.nan
    run = reference.compile_kernel("cpu_avx512_spmm", weight, P("3:16"), None, 40)
    got, finite = run(x), np.arange(40) != 7
    assert reference.relative_error(got[finite], reference.dense(x[finite], weight)) < 1e-5
    assert np.isnan(got[7]).all()


def test_every_number_of_rows_has_the_tile_that_takes_the_least_time():
    assert [_size(m) for m in (1, 16, 17, 32, 33, 48, 64, 80, 1024)] == [16, 16, 32, 32, 32, 32, 32, 32, 32]


@pytest.mark.parametrize(("n", "k", "m"), [(768, 3072, 64), (768, 3072, 256), (384, 1536, 200), (8192, 4096, 64)])
def test_there_is_work_for_all_threads(n, k, m):
    workload = Workload("cpu_avx512_spmm", m, n, k, 4, 16)
    script = KERNEL.schedule(KERNEL.prim_func(workload), workload, AVX512).script()
    *_, last = re.findall(r"in T\.parallel\((?:T\.int64\()?(\d+)\)", script)
    assert int(last) >= 8


@pytest.mark.grid
@pytest.mark.parametrize(
    ("m", "n", "fetches"),
    [(64, 3072, True), (1024, 3072, False), (None, 3072, False), (64, 32768, True), (1024, 32768, True), (None, 32768, True)],
)
def test_inner_loop_is_multiply_adds_from_memory(m, n, fetches):
    workload = Workload("cpu_avx512_spmm", m, n, 768, 4, 16)
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, AVX512).with_attr("global_symbol", "main")
    loop = reference.innermost_loop(build(function, AVX512).mod.inspect_source("asm").splitlines())
    count = {name: sum(name in line for line in loop) for name in ("vfmadd", "vshuf", "vbroadcast", "prefetcht1")}
    octs = count["vfmadd"] // 32  # of two rows of the weight, for two vectors of rows of x
    assert count["vfmadd"] == 32 * octs >= 32
    assert all("(%r" in line for line in loop if "vfmadd" in line)
    assert count["vshuf"] == 20 * octs  # one per value, and the halves that four of them are taken from
    assert count["vbroadcast"] == 0  # none is loaded again
    assert count["prefetcht1"] == (octs if fetches else 0)
    assert not any(re.search(r"vmovup\w\s+%zmm\d+, ", line) for line in loop)  # no sums in memory


def test_squares_are_shuffles_without_spills():
    workload = Workload("cpu_avx512_spmm", 64, 3072, 768, 4, 16)
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, AVX512).with_attr("global_symbol", "main")
    lines = build(function, AVX512).mod.inspect_source("asm").splitlines()
    assert sum("vunpck" in line for line in lines) == 64  # two transpose tiles of 64 shuffles; half of the shuffles are these
    assert not any("zmm" in line and "(%rsp)" in line for line in lines)


def test_refuses_other_dtypes_and_targets():
    assert "AVX-512" in KERNEL.refuses(parse_target("cpu/x86-64-v3"), 64, 64, "float32")
    assert "AVX-512" in KERNEL.refuses(tvm.target.Target({"kind": "cuda", "arch": "sm_90"}), 64, 64, "float32")
    assert "bfloat16" in KERNEL.refuses(AVX512, 64, 64, "bfloat16")
    assert KERNEL.refuses(AVX512, 1, 1, "float32") is None
