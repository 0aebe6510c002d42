import numpy as np
import pytest
import tvm
from support import reference

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import EVERY_M, RowRange
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.base.buckets import Specialization, dispatch_on_m

PATTERN = BalancedPattern(2, 16)
WITH_SMALL_TILES = [
    (name, kernel.dtypes[0])
    for name, kernel in KERNELS.items()
    if kernel.small_tiles and kernel.refuses(host_target(), 64, 64, kernel.dtypes[0]) is None
]


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize(
    ("name", "dtype"),
    [pytest.param(*case, marks=[pytest.mark.nightly] * (place % 3 > 0)) for place, case in enumerate(WITH_SMALL_TILES)],
)
def test_every_m_is_right(name, dtype, rng):
    weight = reference.rounded(reference.balanced(64, 96, PATTERN, rng), dtype)
    run = reference.compile_kernel(name, weight, PATTERN, dtype=dtype)
    for m in range(1, 14):
        x = reference.rounded(rng.standard_normal((m, 96)).astype(np.float32), dtype)
        error = reference.relative_error(run(x), reference.dense(x, weight))
        assert error < max(1e-5 if dtype == "float32" else 8e-3, KERNELS[name].tolerance or 0), m


@pytest.mark.parametrize("kernels", [False, True])
def test_the_specialization_for_m_is_chosen(kernels):
    """Specializations that add their own number, told apart by the result; in branches, and in loops as GPU kernels are."""
    from tvm.script import tirx as T

    def adds(value):
        @T.prim_func(s_tir=True)
        def main(x_: T.handle, y_: T.handle):
            m = T.int64()
            x = T.match_buffer(x_, (m, 4), "float32")
            y = T.match_buffer(y_, (m, 4), "float32")
            for i, j in T.grid(m, 4):
                with T.sblock("add"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    y[vi, vj] = x[vi, vj] + T.float32(value)

        return main

    specializations = [
        Specialization(adds(1), (RowRange(1, 1), RowRange(7, 7))),
        Specialization(adds(2), (RowRange(3, 5),)),
        Specialization(adds(0), (RowRange(2, 2), RowRange(6))),
    ]
    chosen = dispatch_on_m(specializations, kernels)
    main = tvm.compile(chosen, "llvm")["main"]
    got = []
    for m in range(1, 9):
        y = tvm.runtime.tensor(np.zeros((m, 4), np.float32))
        main(tvm.runtime.tensor(np.zeros((m, 4), np.float32)), y)
        got.append(y.numpy().max())
        assert (y.numpy() == got[-1]).all()
    assert got == [1, 0, 2, 2, 2, 0, 1, 0]


def test_a_static_m_has_one_specialization():
    kernel = KERNELS["cpu_dense"]
    static, symbolic = (
        kernel.schedule(kernel.prim_func(workload), workload, host_target()).script()
        for workload in (Workload("cpu_dense", 4, 64, 64, 1, 1), Workload("cpu_dense", None, 64, 64, 1, 1))
    )
    assert static.count("dense_update") == 1
    assert symbolic.count("dense_update") == 1 + len(kernel.small_tiles)


def test_one_specialization_serves_all_ranges_of_its_tile():
    kernel, target = KERNELS["cpu_portable"], host_target()
    workload = Workload("cpu_portable", None, 64, 64, 2, 16)
    assert kernel.tiles_in(workload, EVERY_M)[24] == (RowRange(17, 24), RowRange(33, 48))
    assert kernel.tiles_in(workload, RowRange(20, 40)) == {24: (RowRange(20, 24), RowRange(33, 40))}
    assert kernel.tiles_in(workload, RowRange(49)) == {}
    *small, rest = kernel.specializations(kernel.prim_func(workload), workload, target, EVERY_M, lambda _: None)
    assert [special.ranges for special in small] == [
        (RowRange(1, 4),),
        (RowRange(5, 8),),
        (RowRange(9, 16),),
        (RowRange(17, 24), RowRange(33, 48)),
    ]
    assert rest.ranges == (RowRange(25, 32), RowRange(49))
