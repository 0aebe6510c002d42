import pytest
import torch

from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.errors import TuningError
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.testing import opencl
from tvm_balanced.tuning.runners import gpu
from tvm_balanced.tuning.runners.base import measure
from tvm_balanced.tuning.runners.gpu import GpuRunner, within_limits

GEMV = Workload("cuda_gemv", 2, 70, 272, 2, 16, residual=True)
CASES = (
    Workload("cuda_gemv", 1, 4096, 16384, 2, 16, "float16"),
    Workload("cuda_gemm_fp32", 64, 4096, 4096, 2, 16),
    Workload("cuda_decode_mma", 64, 4096, 4096, 2, 16, "float16"),
)


class OnPocl(GpuRunner):
    """The runner with a GPU that is not there: kernels run through OpenCL."""

    def __init__(self, **faults):
        super().__init__(opencl.target(), rotate=4096)
        self.faults = faults

    def _put(self, array):
        return array.copy()

    def _read(self, array):
        return array

    def _build(self, func):
        if "build" in self.faults:
            raise self.faults["build"]

        program = opencl.Program(func)

        def main(*arrays):
            if "run" in self.faults:
                raise self.faults["run"]
            arrays[-1][...] = program(arrays)

        return main

    def _synchronize(self):
        if "device" in self.faults:
            raise self.faults["device"]


@pytest.mark.slow
@pytest.mark.pocl
def test_candidates_are_measured_checked_and_raced(monkeypatch):
    monkeypatch.setattr(gpu, "REPEATS", 1)
    runner, space = OnPocl(), space_of(GEMV, opencl.target())
    points = [space.at(i) for i in range(0, len(space), max(1, len(space) // 3))]
    results = list(measure(runner, space, GEMV, points))
    assert [result.decisions for result in results] == points
    assert all(result.seconds > 0 and result.error is None for result in results)
    found = runner.confirm(GEMV, points[:1], 0.05)
    assert found.decisions == points[0]
    assert found.max_error < 1e-6


@pytest.mark.pocl
def test_what_does_not_compile_or_run_is_a_failed_candidate():
    for where in ("build", "run"):
        space = space_of(GEMV, opencl.target())
        (result,) = measure(OnPocl(**{where: RuntimeError(f"no {where}")}), space, GEMV, [space.default])
        assert (result.seconds, result.error) == (None, f"no {where}")


@pytest.mark.pocl
def test_a_gpu_that_is_gone_ends_the_run_with_a_sentence():
    runner = OnPocl(run=RuntimeError("an illegal memory access"), device=RuntimeError("sticky error"))
    with pytest.raises(TuningError, match=r"the GPU answers no more after candidate .* \(sticky error\); call tune again"):
        list(measure(runner, space_of(GEMV, opencl.target()), GEMV, [space_of(GEMV, opencl.target()).default]))


@pytest.mark.parametrize("workload", CASES, ids=lambda w: w.kernel)
def test_defaults_are_within_the_limits(workload):
    for name in ("a100", "rtx4090", "h200"):
        target = cuda_target(name)
        assert within_limits(space_of(workload, target), space_of(workload, target).default, target)


@pytest.mark.parametrize(
    ("name", "m", "decisions"),
    [
        ("cuda_gemv", 1, ((128, 1), (8, 64, 1, 1))),  # 2048 threads
        ("cuda_gemv", 1, ((32, 4), (32, 16, 1, 1))),  # as many, of four groups
        ("cuda_gemv", 8, ((128, 1), (1, 16, 8, 4))),  # 512 KiB of x at once
        ("cuda_decode_mma", 64, ((4, 64, 1), (64, 1))),  # 2048 threads or more
    ],
)
def test_too_many_threads_or_too_much_shared_memory_are_not(name, m, decisions):
    space = space_of(Workload(name, m, 4096, 32768, 2, 16, "float16"), target := cuda_target("h200"))
    decisions = (space.default[0], *decisions, *space.default[1 + len(decisions) :])
    assert decisions in space
    assert not within_limits(space, decisions, target)
    assert within_limits(space, space.default, target)


def test_weights_rotate_over_the_cache_of_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    runner = GpuRunner(cuda_target("h200"), rotate=1 << 40)
    assert runner.rotate == 4 * (50 << 20)
    assert runner._timer(lambda _: None, 1).clock == "wall"
