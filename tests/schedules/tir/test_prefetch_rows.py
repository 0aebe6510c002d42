import numpy as np
import pytest
import tvm
from support import reference

from tvm_balanced.compiler.build import build
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.tensors import view
from tvm_balanced.schedules import KERNELS, DenseKernel, Workload
from tvm_balanced.schedules.tir import prefetch, prefetch_rows

P = BalancedPattern.parse
FLOAT32 = ["cpu_avx512", "cpu_avx512_w8", "cpu_avx512_spmm", "cpu_avx512_i8", "cpu_dense", "cpu_portable"]
NEXT_ROWS = ["cpu_avx512", "cpu_avx512_w8", "cpu_avx512_spmm", "cpu_portable"]
SPARE = 160  # rows after the last, for what is fetched past it


def skip_unless_it_computes(name, dtype="float32"):
    if reason := KERNELS[name].refuses(host_target(), 64, 64, dtype):
        pytest.skip(reason)


def lines_fetched(name, m, n, k, pattern, monkeypatch, dtype="float32"):
    """Run a kernel that counts what it fetches; return the counts of x's lines and of the residual's, in rows."""
    monkeypatch.setattr(prefetch, "INTO_SECOND_LEVEL", reference.counter("tvm_balanced_fetch"))
    monkeypatch.setattr(prefetch_rows, "FAR_BYTES", 0)
    kernel, target, as_dtype = KERNELS[name], host_target(), reference.numpy_dtype(dtype)
    weight = np.zeros((n, k), as_dtype)
    if isinstance(kernel, DenseKernel):
        workload, packed = Workload(name, m, n, k, 1, 1, dtype, residual=True), kernel.pack(weight)
    else:
        workload = Workload(name, m, n, k, P(pattern).nnz, P(pattern).block, dtype, residual=True)
        packed = kernel.pack(encode(weight, P(pattern)))
    function = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    whole = [tvm.runtime.tensor(np.zeros((m + SPARE, columns), as_dtype)) for columns in (k, n, n)]
    x, residual, y = (tensor._create_view((m, tensor.shape[1])) for tensor in whole)
    build(function, target)["main"](x, *map(tvm.runtime.tensor, (*packed, kernel.pack_bias(np.zeros(n, as_dtype)))), residual, y)
    return [view(tensor).view(np.int32)[:m, ::16] for tensor in whole[:2]]


@pytest.mark.avx512
@pytest.mark.grid
@pytest.mark.parametrize("name", NEXT_ROWS)
@pytest.mark.parametrize(("m", "n", "k", "pattern"), [(300, 96, 512, "2:16"), (330, 1280, 400, "1:16"), (257, 64, 256, "8:16")])
def test_all_rows_of_x_after_the_first_tile_are_fetched(name, m, n, k, pattern, monkeypatch):
    """Once for each set of row groups; the last row of a tile more often where a set has more tiles than that has rows."""
    x, _ = lines_fetched(name, m, n, k, pattern, monkeypatch)
    first = 64  # rows of the longest tile
    assert (x[first:] >= 1).all()
    assert np.median(x[first:]) < 8
    assert (x[:4] == 0).any()


@pytest.mark.avx512
@pytest.mark.parametrize("pattern", ["2:16", "4:32"])
def test_rows_of_bfloat16(pattern, monkeypatch):
    skip_unless_it_computes("cpu_avx512_bf16", "bfloat16")
    x, residual = lines_fetched("cpu_avx512_bf16", 100, 128, 512, pattern, monkeypatch, "bfloat16")
    assert (x[8:] >= 1).all()
    assert (residual == 1).all()


@pytest.mark.avx512
@pytest.mark.grid
@pytest.mark.parametrize("name", FLOAT32)
def test_every_line_of_the_residual_is_fetched_once(name, monkeypatch):
    skip_unless_it_computes(name)
    _, residual = lines_fetched(name, 300, 128, 512, "2:16", monkeypatch)
    if name == "cpu_portable":  # each row group fetches the next's
        residual = residual[:, 1:]
    assert (residual == 1).all()


@pytest.mark.avx512
@pytest.mark.grid
@pytest.mark.parametrize("name", FLOAT32)
@pytest.mark.parametrize(("m", "fetches"), [(None, True), (1024, True), (128, False), (8, False)])
def test_where_rows_are_fetched(name, m, fetches):
    """Where x and y take 2 MB, or may."""
    skip_unless_it_computes(name)
    kernel = KERNELS[name]
    workload = Workload(name, m, 384, 384, *((1, 1) if isinstance(kernel, DenseKernel) else (2, 16)))
    function = kernel.schedule(kernel.prim_func(workload), workload, host_target()).with_attr("global_symbol", "main")
    assert ("prefetchw" in build(function, host_target()).mod.inspect_source("asm")) == fetches


@pytest.mark.avx512
@pytest.mark.grid
@pytest.mark.parametrize("name", FLOAT32)
@pytest.mark.parametrize("pattern", ["2:16", "3:16"])
@pytest.mark.parametrize("static", [None, 9, 141])
def test_results_are_the_same(name, pattern, static, rng, monkeypatch):
    """K and N are no whole blocks, M no whole tiles."""
    skip_unless_it_computes(name)
    monkeypatch.setattr(prefetch_rows, "FAR_BYTES", 0)
    kernel = KERNELS[name]
    weight, bias = reference.balanced(72, 300, P(pattern), rng), rng.standard_normal(72).astype(np.float32)
    run = reference.compile_kernel(name, weight, P(pattern), bias, m=static, residual=True, activation="relu")
    for m in [static] if static else (17, 141):
        x, residual = (rng.standard_normal((m, columns)).astype(np.float32) for columns in (300, 72))
        error = reference.relative_error(run(x, residual), reference.dense(x, weight, bias, "relu", residual))
        assert error < (kernel.tolerance or 1e-5), m
