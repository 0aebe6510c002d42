import pytest
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.base.space import Space, decisions_of

HERE = [name for name, kernel in KERNELS.items() if kernel.refuses(host_target(), 64, 64, "float32") is None]


def space(name, m=16, n=128, k=64, tile=0):
    kernel = KERNELS[name]
    workload = Workload(name, m, n, k, *((1, 1) if name == "cpu_dense" else (2, 16)), tile=tile)
    func = kernel.prim_func(workload)
    return kernel.sampled(func, workload, host_target()), kernel, func, workload


@pytest.mark.grid
@pytest.mark.parametrize("name", HERE)
def test_replaying_the_default_is_the_default_schedule(name):
    found, kernel, func, workload = space(name)
    assert tvm_ffi.structural_equal(found.replay(found.default), kernel.schedule_tiles(func, workload, host_target()))


@pytest.mark.grid
@pytest.mark.parametrize("name", HERE)
def test_points_are_distinct_numbered_and_inside(name):
    found, *_ = space(name)
    points = list(found)
    assert len(points) == len(set(points)) == len(found)
    assert found.default in points
    assert all(point in found for point in points)
    assert found.at(len(found) - 1) == points[-1]


def test_every_point_is_replayed_as_it_was_written():
    found, *_ = space(HERE[0], m=8, n=64)
    for point in found:
        sch = Schedule(found.func)
        found.trace_of(point).apply_to_schedule(sch, remove_postproc=False)
        assert tuple(tuple(int(v) for v in d) for d in sch.trace.decisions.values()) == point


def test_what_is_not_of_the_space_is_refused():
    found, *_ = space(HERE[0])
    outer, *rest = found.default
    for wrong in ((), (outer,), ((outer[0] * 3, *outer[1:]), *rest), (*found.default, (1,))):
        assert wrong not in found
        with pytest.raises(ValueError, match="none of the kernel's"):
            found.replay(wrong)


def test_equal_fingerprints_mean_equal_instructions():
    found, kernel, func, workload = space(HERE[0], m=32)
    assert found.fingerprint == space(HERE[0], m=64, n=256, k=128)[0].fingerprint  # only the extents differ

    class Other(type(kernel)):
        def space(self, sch, workload, target):
            super().space(sch, workload, target)
            sch.annotate(sch.get_sblock("epilogue"), "other", 1)

    assert Other().sampled(func, workload, host_target()).fingerprint != found.fingerprint


def test_categories_are_choices_too():
    @T.prim_func(s_tir=True)
    def func(y: T.Buffer((tirx.IntImm("int64", 8),), "float32")):
        for i in T.serial(T.int64(8)):
            with T.sblock("fill"):
                vi = T.axis.spatial(T.int64(8), i)
                y[vi] = T.float32(1)

    sch = Schedule(func)
    (loop,) = sch.get_loops(sch.get_sblock("fill"))
    factor = sch.sample_categorical([1, 2, 4], [0.5, 0.25, 0.25], decision=1)
    sch.split(loop, [None, factor])
    found = Space.of(sch, func)
    assert found.choices == (((0,), (1,), (2,)),)
    assert found.default == ((1,),)
    loops = Schedule(found.replay(((2,),)))
    assert [int(loops.get(v).extent) for v in loops.get_loops(loops.get_sblock("fill"))] == [2, 4]


def test_tuned_decisions_are_applied_and_those_that_do_not_fit_are_not():
    found, kernel, func, workload = space(HERE[0])
    other = next(point for point in found if point != found.default)
    scheduled = kernel.schedule(func, workload, host_target(), lambda _: other)
    assert tvm_ffi.structural_equal(scheduled, found.replay(other))
    assert not tvm_ffi.structural_equal(scheduled, kernel.schedule(func, workload, host_target()))
    misfit = kernel.schedule(func, workload, host_target(), lambda _: ((3, 5),))
    assert tvm_ffi.structural_equal(misfit, kernel.schedule(func, workload, host_target()))


@pytest.mark.avx512
def test_a_symbolic_m_asks_for_its_small_instances():
    kernel = KERNELS["cpu_avx512"]
    workload = Workload("cpu_avx512", None, 128, 64, 2, 16)
    asked = []

    def tuned(small):
        asked.append(small.m)
        found, *_ = space("cpu_avx512", m=small.m)
        return next(point for point in found if point != found.default)

    func = kernel.prim_func(workload)
    scheduled = kernel.schedule(func, workload, host_target(), tuned)
    assert asked == [tile for _, _, tile in kernel.small_tiles]
    assert scheduled.script() != kernel.schedule(func, workload, host_target()).script()


def test_points_of_all_forms_are_distinct_and_numbered():
    """A form is the first decision, and the default one is what a model gets."""
    target, workload = cuda_target("h200"), Workload("cuda_decode_mma", 16, 64, 128, 2, 16, "float16")
    kernel = KERNELS[workload.kernel]
    func = kernel.prim_func(workload)
    found = kernel.sampled(func, workload, target)
    points = list(found)
    assert found.choices[0] == found.forms == kernel.forms(workload, target)
    assert {point[0] for point in points} == set(found.forms)
    assert len(points) == len(set(points)) == len(found)
    assert [found.at(i) for i in range(len(found))] == points
    with pytest.raises(IndexError):
        found.at(len(found))
    assert ((7, 7, 7), *found.default[1:]) not in found
    other = (found.forms[1], *found.default[1:])
    sch = found.schedule(other)
    assert decisions_of(sch.trace, sch.mod) == other
    assert tvm_ffi.structural_equal(kernel.schedule_tiles(func, workload, target, other), sch.mod["main"])
    assert not tvm_ffi.structural_equal(sch.mod["main"], found.replay(found.default))
