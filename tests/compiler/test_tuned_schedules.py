from dataclasses import replace

import pytest
from support.tuned_logs import KEY, TARGET, WORKLOAD, log_of, winner

import tvm_balanced as tb
from tvm_balanced.compiler.tuned_schedules import Choice, TunedSchedules
from tvm_balanced.core.row_range import RowRange
from tvm_balanced.errors import TuningError
from tvm_balanced.runtime.host import user_folder
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.multi_kernel import Variant
from tvm_balanced.schedules.spaces import space_of


def test_the_users_log_comes_before_the_shipped_one(tmp_path):
    other = replace(WORKLOAD, m=8)
    user = log_of(tmp_path / "user", winner())
    shipped = log_of(tmp_path / "shipped", winner(decisions=space_of(WORKLOAD, TARGET).default), winner(other))
    found = TunedSchedules(TARGET, 1, [("user log", user), ("shipped", shipped)])
    assert found.choose(WORKLOAD) == Choice(winner().decisions, "tuned: user log")
    assert found.choose(other).source == "tuned: shipped"
    assert found.choose(replace(WORKLOAD, m=4)) == Choice(None, "default")


def test_a_winner_on_other_threads_says_nothing(tmp_path):
    found = TunedSchedules(TARGET, 2, [("user log", log_of(tmp_path, winner()))])
    assert found.choose(WORKLOAD) == Choice(None, "default")


def test_the_last_winner_counts_and_one_that_lost_is_not_used(tmp_path):
    found = TunedSchedules(TARGET, 1, [("user log", log_of(tmp_path, winner(), winner(won=False)))])
    assert found.choose(WORKLOAD) == Choice(None, "default: nothing beat it, user log")


@pytest.mark.parametrize("changes", [{"space": "0000"}, {"decisions": ((3, 5),)}, {"decisions": ()}])
def test_a_winner_of_another_version_of_the_kernel_is_not_used_and_that_is_said(changes, tmp_path):
    found = TunedSchedules(TARGET, 1, [("user log", log_of(tmp_path, winner(**changes)))])
    assert found(WORKLOAD) is None
    assert found.source(Variant(WORKLOAD)) == "default: the kernel has changed since it was tuned, user log"


def test_a_log_of_another_cpu_is_never_applied(tmp_path):
    log_of(tmp_path, winner(), key="llvm-x86_64-other")
    assert TunedSchedules.of(TARGET, 1, tmp_path)(WORKLOAD) is None
    (tmp_path / "llvm-x86_64-other").rename(tmp_path / KEY)  # not under this one's name either
    with pytest.raises(TuningError, match=f"made for llvm-x86_64-other, not for {KEY}"):
        TunedSchedules.of(TARGET, 1, tmp_path)
    assert TunedSchedules.of(TARGET, 1, False)(WORKLOAD) is None


def test_by_default_it_is_the_users_folder():
    log = log_of(user_folder(), winner(replace(WORKLOAD, n=144)))
    try:
        assert TunedSchedules.of(TARGET, 1).source(Variant(replace(WORKLOAD, n=144))) == "tuned: user log"
    finally:
        log.path.unlink()


@pytest.mark.avx512
def test_a_symbolic_m_uses_what_its_small_instances_were_tuned_for(tmp_path):
    workload = Workload("cpu_avx512", None, 128, 64, 2, 16)
    found = TunedSchedules(TARGET, 1, [("user log", log_of(tmp_path, *(winner(replace(workload, m=m)) for m in (1, 2))))])
    assert found.source(Variant(workload)) == "tuned: user log at M = 1, 2"
    assert found.source(Variant(workload, RowRange(2))) == "tuned: user log at M = 2"
    assert TunedSchedules(TARGET, 1, []).source(Variant(workload)) == "default"


@pytest.mark.slow
def test_compile_and_inspect_apply_what_fits_and_say_so(mlp, tmp_path):
    plain = tb.compile(*mlp, threads=1, logs=False)
    assert {row.schedule for row in plain.report.layers} == {"default"}
    row = plain.report.layers[0]
    nnz, block = map(int, row.stored.split(":"))
    workload = Workload(row.kernel, row.m, row.n, row.k, nnz, block, activation="gelu")
    if len(space_of(workload, TARGET)) == 1:
        pytest.skip("the portable kernel has no choices")
    log_of(tmp_path, winner(workload))
    tuned = tb.compile(*mlp, threads=1, logs=tmp_path)
    assert [row.schedule for row in tuned.report.layers] == ["tuned: user log", "default"]
    assert [row.schedule for row in tb.inspect(*mlp, threads=1, logs=tmp_path).layers] == ["tuned: user log", "default"]
    assert "tuned: user log" in str(tuned.report)
    x = mlp[1][0].numpy()
    assert abs(tuned(x) - plain(x)).max() < 1e-5
