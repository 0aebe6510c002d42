import numpy as np
import pytest
import tvm
from support import reference

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.base.buckets import Instance, common, dispatch_on_m, without

PATTERN = BalancedPattern(2, 16)
WITH_SMALL_TILES = [
    (name, kernel.dtypes[0])
    for name, kernel in KERNELS.items()
    if kernel.small_tiles and kernel.refuses(host_target(), 64, 64, kernel.dtypes[0]) is None
]


@pytest.mark.parametrize(("name", "dtype"), WITH_SMALL_TILES)
def test_every_m_is_right(name, dtype, rng):
    weight = reference.rounded(reference.balanced(64, 96, PATTERN, rng), dtype)
    run = reference.compile_kernel(name, weight, PATTERN, dtype=dtype)
    for m in range(1, 14):
        x = reference.rounded(rng.standard_normal((m, 96)).astype(np.float32), dtype)
        error = reference.relative_error(run(x), reference.dense(x, weight))
        assert error < max(1e-5 if dtype == "float32" else 8e-3, KERNELS[name].tolerance or 0), m


@pytest.mark.parametrize("kernels", [False, True])
def test_the_instance_for_m_is_chosen(kernels):
    """Instances that add their own number, told apart by the result; in branches, and in loops as GPU kernels are."""
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

    instances = [Instance(adds(1), ((1, 1), (7, 7))), Instance(adds(2), ((3, 5),)), Instance(adds(0), ((2, 2), (6, None)))]
    chosen = dispatch_on_m(instances, kernels)
    main = tvm.compile(chosen, "llvm")["main"]
    got = []
    for m in range(1, 9):
        y = tvm.runtime.tensor(np.zeros((m, 4), np.float32))
        main(tvm.runtime.tensor(np.zeros((m, 4), np.float32)), y)
        got.append(y.numpy().max())
        assert (y.numpy() == got[-1]).all()
    assert got == [1, 0, 2, 2, 2, 0, 1, 0]


def test_ranges():
    assert common((1, 4), (3, None)) == (3, 4)
    assert common((1, None), (3, None)) == (3, None)
    assert common((1, 2), (3, 4)) is None
    assert without((1, None), [(1, 1), (2, 2), (5, 6)]) == ((3, 4), (7, None))
    assert without((2, 6), [(2, 2), (5, 6)]) == ((3, 4),)
    assert without((1, 2), [(1, 1), (2, 2)]) == ()
    assert without((9, 12), []) == ((9, 12),)


def test_a_static_m_has_one_instance():
    kernel = KERNELS["cpu_dense"]
    static, symbolic = (
        kernel.schedule(kernel.prim_func(workload), workload, host_target()).script()
        for workload in (Workload("cpu_dense", 4, 64, 64, 1, 1), Workload("cpu_dense", None, 64, 64, 1, 1))
    )
    assert static.count("dense_update") == 1
    assert symbolic.count("dense_update") == 1 + len(kernel.small_tiles)


def test_one_instance_serves_all_ranges_of_its_tile():
    kernel, target = KERNELS["cpu_portable"], host_target()
    workload = Workload("cpu_portable", None, 64, 64, 2, 16)
    assert kernel.tiles_in(workload, (1, None))[24] == ((17, 24), (33, 48))
    assert kernel.tiles_in(workload, (20, 40)) == {24: ((20, 24), (33, 40))}
    assert kernel.tiles_in(workload, (49, None)) == {}
    *small, rest = kernel.instances(kernel.prim_func(workload), workload, target, (1, None), lambda _: None)
    assert [instance.ranges for instance in small] == [((1, 4),), ((5, 8),), ((9, 16),), ((17, 24), (33, 48))]
    assert rest.ranges == ((25, 32), (49, None))
