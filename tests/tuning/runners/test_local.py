import numpy as np
import pytest
import tvm_ffi
from support import reference

from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.ratio import Ratio
from tvm_balanced.errors import last_line
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.tensors import address_of
from tvm_balanced.schedules import KERNELS, SparseKernel, Workload
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.testing.operands import draw, relative_error
from tvm_balanced.timing import rotating
from tvm_balanced.timing.paired import Timing
from tvm_balanced.timing.rotating import rotation
from tvm_balanced.tuning.runners import local as module
from tvm_balanced.tuning.runners.base import dense_workload, measure
from tvm_balanced.tuning.runners.local import LocalRunner

HERE = [name for name, k in KERNELS.items() if k.refuses(host_target(), 64, 64, "float32") is None]


def workload(name, **changes):
    pattern = (2, 16) if isinstance(KERNELS[name], SparseKernel) else (1, 1)
    return Workload(name, 5, 40, 72, *pattern, **changes)


@pytest.mark.grid
@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_the_default_computes_what_the_reference_says(name, activation):
    """With a ragged K and N, a residual, and weights whose indices are valid."""
    runner, given = LocalRunner(host_target(), 1), workload(name, activation=activation, residual=True)
    found = runner.confirm(given, [space_of(given, host_target()).default], 0.05)
    assert found.max_error < max(1e-5, KERNELS[name].tolerance or 0)


def test_measuring_goes_on_where_a_candidate_fails(monkeypatch):
    given = workload(HERE[-1])
    space = space_of(given, host_target())
    monkeypatch.setattr(rotating, "SECONDS", 0.001)
    runner = LocalRunner(host_target(), 1)
    points = [space.default, ((3, 5),), space.at(0)]
    results = {result.decisions: result for result in measure(runner, space, given, points)}
    assert [results[point].seconds is None for point in points] == [False, True, False]
    assert "none of the kernel's" in results[points[1]].error


@pytest.mark.slow
def test_a_wrong_candidate_never_wins(monkeypatch):
    given = workload(HERE[-1])
    space = space_of(given, host_target())
    wrong, right = space.at(0), space.at(len(space) - 1)
    runner = LocalRunner(host_target(), 1)
    errors = iter([1e-7, 1.0, 1e-7])  # of the default, then of the candidates
    monkeypatch.setattr(runner, "_error", lambda *_: next(errors))
    assert runner.confirm(given, [wrong, right], 0.05).decisions == right
    monkeypatch.setattr(runner, "_error", lambda *_: float("inf"))
    assert runner.confirm(given, [wrong, right], 0.05) is None


def test_a_candidate_that_does_not_build_loses_its_own_race_alone(monkeypatch):
    given = workload(HERE[-1])
    space = space_of(given, host_target())
    one, other = space.at(0), space.at(len(space) - 1)
    runner = LocalRunner(host_target(), 1)
    build, broken = runner._build, {one}

    def breaks(func):
        if any(tvm_ffi.structural_equal(func, space.replay(decisions)) for decisions in broken):
            raise RuntimeError("LLVM said no")
        return build(func)

    monkeypatch.setattr(runner, "_build", breaks)
    assert runner.confirm(given, [one, other], 0.05).decisions == other
    broken.add(space.default)
    assert runner.confirm(given, [one, other], 0.05) is None
    monkeypatch.setattr(runner, "_build", lambda _: 1 / 0)
    assert runner.dense_seconds(workload(HERE[0])) is None


def test_the_fastest_in_the_race_wins(monkeypatch):
    given = workload(HERE[-1])
    space = space_of(given, host_target())
    slow, fast = space.at(0), space.at(1)
    times = {"default": np.full(8, 2.0), str(slow): np.full(8, 3.0), str(fast): np.full(8, 1.0)}
    monkeypatch.setattr(module, "measure_paired", lambda *_, **__: Timing(times))
    found = LocalRunner(host_target(), 1).confirm(given, [slow, fast], 0.05)
    assert (found.decisions, found.gain) == (fast, Ratio(2.0, 2.0, 2.0))


def test_the_rounds_that_choose_a_winner_do_not_say_what_it_gains(monkeypatch):
    """One candidate was lucky in the rounds that choose, so it is chosen; the others say that it is no faster."""
    given = workload(HERE[-1])
    lucky, even = space_of(given, host_target()).at(0), space_of(given, host_target()).at(1)
    times = {"default": np.full(8, 2.0), str(lucky): np.array([1.0, 1, 2, 2, 1, 1, 2, 2]), str(even): np.full(8, 1.9)}
    monkeypatch.setattr(module, "measure_paired", lambda *_, **__: Timing(times))
    found = LocalRunner(host_target(), 1).confirm(given, [lucky, even], 0.05)
    assert (found.decisions, found.gain) == (lucky, Ratio(1.0, 1.0, 1.0))


def test_weights_are_rotated_over_as_many_bytes_as_asked_for():
    given = Workload("cpu_dense", 2, 64, 64, 1, 1)
    arguments, copies = rotation(given, 10 * draw(given).packed)
    assert len(copies) == 11
    assert len({address_of(copy[1]) for copy in copies}) == 11
    assert arguments.packed == 64 * 64 * 4 + 64 * 4


def test_few_workloads_are_held(monkeypatch):
    monkeypatch.setattr(module, "HELD_BYTES", 1)
    runner = LocalRunner(host_target(), 1)
    for m in (1, 2):
        runner._arguments(Workload("cpu_dense", m, 64, 64, 1, 1))
    assert len(runner._held) == 1
    runner.close()
    assert not runner._held


def test_dense_is_timed_for_sparse_layers_alone():
    runner = LocalRunner(host_target(), 1)
    assert dense_workload(workload("cpu_dense"), host_target()) is None
    assert runner.dense_seconds(workload("cpu_dense")) is None
    assert runner.dense_seconds(workload(HERE[0])) > 0


def test_the_dense_kernel_of_a_convolution_is_one_that_takes_it():
    wide, depthwise = (Convolution(16, (1, 9, 9), (1, 3, 3), groups=groups) for groups in (1, 16))
    names = [
        dense_workload(
            Workload("cpu_conv_sparse_avx512", 49, 16, 9 * conv.depth, 1, 9, conv=conv), parse_target("cpu/x86-64-v3")
        ).kernel
        for conv in (wide, depthwise)
    ]
    assert names == ["cpu_conv_dense_avx2", "cpu_conv_depthwise_avx2"]


def test_errors_in_one_line():
    assert last_line(ValueError("a page\nof text\n\n")) == "of text"
    assert last_line(ValueError()) == "ValueError"
    assert relative_error(np.array([np.nan]), np.array([1.0])) == float("inf")
