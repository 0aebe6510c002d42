import re

import numpy as np
import pytest
import tvm
from support import reference

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.kernels.cpu_portable import k_tiles, tile_size

P = BalancedPattern.parse
KERNEL = KERNELS["cpu_portable"]


@pytest.mark.grid
@pytest.mark.parametrize(
    ("pattern", "k", "n"),
    [
        ("2:16", 1500, 64),
        ("4:32", 784, 64),
        ("8:64", 40, 64),
        ("2:16", 256, 1000),
        ("10:50", 500, 64),
        ("10:50", 1500, 64),
        ("7:25", 160, 64),
        ("3:20", 130, 64),
        ("1:2", 33, 5),
        ("100:256", 600, 8),
    ],
)
@pytest.mark.parametrize("m", [1, 9])
def test_ragged_and_odd(pattern, k, n, m, rng):
    weight = reference.balanced(n, k, P(pattern), rng)
    bias, x = rng.standard_normal(n).astype(np.float32), rng.standard_normal((m, k)).astype(np.float32)
    run = reference.compile_kernel("cpu_portable", weight, P(pattern), bias, m)
    assert reference.relative_error(run(x), reference.dense(x, weight, bias)) < 1e-5


def test_layout_is_the_documented_one(rng):
    """values[t, g, r, b, j] is slot j of block KB t + b of row 16 g + r; zero if there is no such block or row."""
    weight = reference.balanced(40, 300, P("2:16"), rng)
    encoded = reference.encode(weight, P("2:16"))
    values, indices = KERNEL.pack(encoded)
    assert values.shape == indices.shape == (3, 3, 16, 7, 2)
    assert (values.dtype, indices.dtype) == (np.float32, np.uint8)
    for row, block in ((0, 0), (17, 6), (39, 7), (20, 18)):
        place = block // 7, row // 16, row % 16, block % 7
        assert np.array_equal(values[place], encoded.values[row, block])
        assert np.array_equal(indices[place], encoded.indices[row, block])
    assert not values[:, 2, 8:].any()
    assert not values[2, :, :, 5:].any()


@pytest.mark.parametrize(
    ("pattern", "k", "tiles", "blocks"),
    [
        ("2:16", 768, 6, 8),
        ("2:16", 1500, 12, 8),
        ("2:16", 33, 1, 3),
        ("10:50", 500, 2, 8),  # 400 columns, a multiple of 16
        ("3:20", 130, 2, 4),
        ("100:256", 600, 3, 1),
        ("2:255", 1000, 4, 1),  # a multiple of 16 would be 4080 columns
    ],
)
def test_tiles_of_k(pattern, k, tiles, blocks):
    assert k_tiles(P(pattern), k) == (tiles, blocks)
    assert tiles * blocks >= P(pattern).blocks(k)


# Rows of x from one tile to five: all of it laid out at once, and tile by tile; with padding of every kind
@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("target", ["cpu", "cpu/x86-64-v3", "cpu/x86-64"])
@pytest.mark.parametrize(
    ("pattern", "n", "k", "m"),
    [
        ("2:16", 48, 384, 64),
        ("4:16", 40, 100, 129),
        ("2:16", 1100, 384, 256),
        ("3:16", 1001, 150, 261),
        ("10:50", 70, 500, 257),
        ("2:255", 33, 600, 300),
        ("1:2", 17, 33, 320),
    ],
)
def test_many_rows_of_x(pattern, n, k, m, target, rng):
    weight = reference.balanced(n, k, P(pattern), rng)
    bias, x, residual = (rng.standard_normal(shape).astype(np.float32) for shape in ((n,), (m, k), (m, n)))
    want = reference.dense(x, weight, bias, "gelu", residual)
    allowed = reference.allowed_error(x, weight, bias, "gelu", residual)
    for rows in (m, None) if target == "cpu" else (m,):
        run = reference.compile_kernel("cpu_portable", weight, P(pattern), bias, rows, "gelu", parse_target(target), True)
        assert (np.abs(run(x, residual) - want) <= allowed).all()


def test_every_number_of_rows_has_a_tile_that_wastes_little():
    waste = {m: -(-m // tile_size(m)) * tile_size(m) / m for m in range(8, 1025)}
    assert max(waste.values()) <= 2
    assert max(value for m, value in waste.items() if m >= 64) < 1.33
    assert [tile_size(m) for m in (1, 4, 5, 16, 64, 72, 1024)] == [4, 4, 8, 16, 64, 24, 64]


@pytest.mark.parametrize(("n", "k", "m"), [(768, 3072, 64), (768, 3072, 256), (384, 1536, 200), (4096, 4096, 1)])
def test_there_is_work_for_all_threads(n, k, m):
    workload, target = Workload("cpu_portable", m, n, k, 2, 16), parse_target("cpu/x86-64-v3")
    script = KERNEL.schedule(KERNEL.prim_func(workload), workload, target).script()
    *_, last = re.findall(r"in T\.parallel\(T\.int64\((\d+)\)", script)
    assert int(last) >= 8


@pytest.mark.grid
@pytest.mark.parametrize(
    ("target", "m", "sums"), [("x86-64-v3", 64, 8), ("x86-64-v3", 8, 8), ("x86-64-v4", 64, 16), ("x86-64-v4", 8, 16)]
)
def test_inner_loop_is_multiply_adds_from_memory(target, m, sums):
    workload, target = Workload("cpu_portable", m, 3072, 384, 4, 16), parse_target(f"cpu/{target}")
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    lines = build(function, target).mod.inspect_source("asm").splitlines()
    loop = reference.innermost_loop(lines)
    products = [line for line in loop if "vfmadd" in line]
    assert len(products) % sums == 0
    assert len(products) >= sums
    assert all("(%r" in line for line in products)
    # neither sums in memory, nor indices that are loaded as a vector and extracted
    assert not any(re.search(r"vmovup\w\s+%[yz]mm\d+, |vpextr", line) for line in loop)


@pytest.mark.grid
@pytest.mark.parametrize("name", ["cpu_portable", "cpu_dense"])
@pytest.mark.parametrize("target", ["aarch64", "haswell"])
def test_other_cpus_get_vector_code(name, target):
    description = (
        {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mattr": ["+neon"]}
        if target == "aarch64"
        else {"kind": "llvm", "mcpu": target}
    )
    kernel = KERNELS[name]
    workload = Workload(name, 16, 64, 64, *((2, 16) if name == "cpu_portable" else (1, 1)), activation="gelu")
    target_ = tvm.target.Target(description)
    assert kernel.refuses(target_, 64, 64, "float32") is None
    function = kernel.schedule(kernel.prim_func(workload), workload, target_).with_attr("global_symbol", "main")
    assembly = build(function, target_).mod.inspect_source("asm")
    assert ("fmla\tv" if target == "aarch64" else "%ymm") in assembly
    assert "%zmm" not in assembly


@pytest.mark.parametrize("target", ["x86-64", "x86-64-v3"])
def test_code_for_an_older_cpu_runs_and_is_right(target, rng):
    weight = reference.balanced(40, 70, P("3:16"), rng)
    x = rng.standard_normal((6, 70)).astype(np.float32)
    old = tvm.target.Target({"kind": "llvm", "mcpu": target})
    for name in ("cpu_portable", "cpu_dense"):
        run = reference.compile_kernel(name, weight, P("3:16"), None, 6, target=old)
        assert reference.relative_error(run(x), reference.dense(x, weight)) < 1e-5


def test_one_row_is_not_a_gather(rng):
    from tvm_balanced.runtime.host import host_target

    workload = Workload("cpu_portable", 1, 64, 64, 2, 16)
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, host_target()).with_attr("global_symbol", "main")
    assert "gather" not in build(function, host_target()).mod.inspect_source("asm")


def test_refuses_other_dtypes_and_targets():
    cpu = tvm.target.Target({"kind": "llvm"})
    assert "bfloat16" in KERNEL.refuses(cpu, 64, 64, "bfloat16")
    assert "not a CPU" in KERNEL.refuses(tvm.target.Target({"kind": "cuda", "arch": "sm_90"}), 64, 64, "float32")
