import numpy as np
import pytest
import reference
import tvm
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.build import build
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.fetch import fetch, import_fetch
from tvm_balanced.targets import host_target, parse_target


def assembly(m, n):
    kernel, workload = KERNELS["cpu_avx512"], Workload("cpu_avx512", m, n, 4096, 4, 16)
    function = kernel.schedule(kernel.prim_func(workload), workload, host_target()).with_attr("global_symbol", "main")
    return build(function, host_target()).mod.inspect_source("asm")


@pytest.mark.parametrize("ahead", [0, 32, 1 << 40])
def test_what_is_fetched_may_lie_anywhere(ahead, rng):
    @T.prim_func(s_tir=True)
    def sums(x: T.Buffer((256, 8), "float32"), y: T.Buffer((8,), "float32")):
        for i, k in T.grid(8, 256):
            with T.sblock("sum"):
                vi, vk = T.axis.remap("SR", [i, k])
                with T.init():
                    y[vi] = T.float32(0)
                y[vi] = y[vi] + x[vk, vi]
                T.evaluate(fetch(x[vk + T.int64(ahead), vi]))

    sch = Schedule(sums)
    import_fetch(sch, "sum")
    library = build(sch.mod["main"], parse_target("cpu/x86-64-v3"))
    code = library.mod.inspect_source("asm")
    assert "prefetcht1" in code
    assert "tvm_balanced_fetch" not in code  # inlined
    x, y = rng.standard_normal((256, 8)).astype(np.float32), tvm.runtime.tensor(np.zeros(8, np.float32))
    library["main"](tvm.runtime.tensor(x), y)
    np.testing.assert_allclose(y.numpy(), x.sum(axis=0, dtype=np.float64), rtol=1e-4, atol=1e-4)


@pytest.mark.avx512
def test_sums_stay_in_registers():
    """What a fetch may change decides that: with TVM's prefetch every step stores all sums."""
    loop = reference.innermost_loop(assembly(8, 4096).splitlines())
    stores = [line for line in loop if line.startswith("\tvmov") and line.endswith(")") and "(%rsp)" not in line]
    assert sum("prefetcht1" in line for line in loop) == 2 * (8 + 1)  # two groups: eight steps' values, one word of indices
    assert stores == []


@pytest.mark.avx512
@pytest.mark.parametrize(("m", "n", "fetches"), [(3, 4096, 1), (16, 4096, 1), (1, 4096, 0), (64, 4096, 0), (8, 768, 0)])
def test_only_large_weights_that_serve_few_rows_are_fetched(m, n, fetches):
    assert ("prefetcht1" in assembly(m, n)) == fetches
