import pytest

from benchmarks import prefetch_ablation
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.testing.operands import draw


def test_sets_have_names_of_their_own():
    assert len({str(chosen) for chosen in prefetch_ablation.SETS}) == len(prefetch_ablation.SETS)


@pytest.mark.parametrize(("what", "m"), [("weights", 8), ("rows", 1024)])
def test_without_fetches_nothing(what, m):
    workload, target = Workload("cpu_avx512", m, 384, 384, 2, 16), parse_target("cpu/x86-64-v4")

    def script():
        kernel = KERNELS[workload.kernel]
        return kernel.schedule(kernel.prim_func(workload), workload, target).script()

    assert "tvm_balanced_fetch" in script()
    with prefetch_ablation.without(what):
        assert "tvm_balanced_fetch" not in script()
    assert "tvm_balanced_fetch" in script()


@pytest.mark.parametrize(("what", "moving"), [("weights", [1, 2, 3]), ("rows", [0, 4, 5])])
def test_only_what_comes_from_far_is_copied(what, moving):
    workload = Workload("cpu_avx512", 64, 384, 384, 2, 16, residual=True)  # x, values, indices, bias, residual, y
    first, second, *_ = prefetch_ablation.in_turn(workload, draw(workload), what)
    assert [place for place in range(6) if not first[place].same_as(second[place])] == moving
