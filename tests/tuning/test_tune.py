"""Runs as a user has them: stopped, killed, resumed, two at once. Nearly all with the fixed-latency runner."""

import os
import random
import signal
import time

import numpy as np
import pytest
from support.fixed_latency import TASKS, FixedLatencyRunner, fake_seconds, start, start_real, tune, wait_for_lines

from tvm_balanced.compiler.tuned_schedules import TunedSchedules
from tvm_balanced.errors import InputError, TargetError, TuningError
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules.multi_kernel import Variant
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning import scheduler
from tvm_balanced.tuning import tune as tune_module
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Run, Trial, Winner
from tvm_balanced.tuning.log.tools import compact, verify
from tvm_balanced.tuning.rpc.tracker import RpcOptions
from tvm_balanced.tuning.scheduler import BATCH
from tvm_balanced.tuning.search.nearest import fit
from tvm_balanced.tuning.tune import TuneOptions, packed_bytes, tune_imported, tune_tasks

KEY = target_key(host_target())
PLANNED = 64
pytestmark = pytest.mark.xdist_group("tuning")  # processes that are killed


def records(folder, kind=Trial):
    return [record for record in Log(folder, KEY).read().records if isinstance(record, kind)]


class Stopped(Exception):
    """As a kill is: nothing that follows is done."""


def stop_after(trials):
    def on_progress(tuner):
        if tuner.trials + sum(len(state.strategy.seen) for state in tuner.states) >= trials:
            raise Stopped

    return on_progress


def numbers(folder):
    return sorted(trial.number for trial in records(folder))


def check_resumed(folder, runner=None):
    assert verify(folder) == []
    result = tune(folder, trials=PLANNED, resume=True, runner=runner)
    assert result.trials == PLANNED
    assert numbers(folder) == list(range(1, PLANNED + 1))
    points = [(trial.workload, trial.decisions) for trial in records(folder)]
    assert len(points) == len(set(points))  # nothing was measured twice
    assert verify(folder) == []
    assert len(records(folder, Run)) == 1


SEEDS = [0, 1, *(pytest.param(i, marks=pytest.mark.slow if i < 6 else pytest.mark.nightly) for i in range(2, 20))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_tuner_is_resumed(seed, tmp_path):
    rng = random.Random(seed)
    process = start(tmp_path, trials=PLANNED)
    wait_for_lines(tmp_path, rng.choice((1, 2, 10, 18, 26, 34, 42, 50, 58)))
    time.sleep(rng.uniform(0, 0.02))  # a batch takes 16 ms
    process.kill()
    process.join()
    check_resumed(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("lines", [2, 18, 34])
def test_a_killed_tuner_of_real_kernels_is_resumed(lines, tmp_path):
    process = start_real(tmp_path, trials=PLANNED)
    wait_for_lines(tmp_path, lines)
    process.kill()
    process.join()
    check_resumed(tmp_path)


@pytest.mark.grid
@pytest.mark.parametrize("kept", [0, 1, 60, 200, -1])
def test_a_cut_log_is_resumed(kept, tmp_path):
    tune(tmp_path, trials=40)
    path = Log(tmp_path, KEY).path
    lines = path.read_bytes().splitlines(keepends=True)
    last = max(place for place, line in enumerate(lines) if b'"trial"' in line)
    path.write_bytes(b"".join(lines[:last]) + lines[last][:kept])
    check_resumed(tmp_path)


def test_resuming_goes_on_where_it_stopped(tmp_path):
    """In the same order too: a run that was stopped and one that was not have the same trials."""
    tune(tmp_path / "whole", trials=PLANNED)
    tune(tmp_path / "cut", trials=24)  # three batches
    tune(tmp_path / "cut", trials=PLANNED, resume=True, runner=(runner := FixedLatencyRunner()))
    assert len(runner.measured) == PLANNED - 24
    whole, cut = ([(t.workload, t.decisions) for t in records(tmp_path / name)] for name in ("whole", "cut"))
    assert whole == cut


@pytest.mark.slow
def test_a_resumed_run_is_one_of_the_same_model(tmp_path):
    """With its seed, its strategy, and its budget where none is given."""
    first = tune(tmp_path, trials=24, seed=5, strategy="replay")
    with pytest.raises(Stopped):
        tune(tmp_path, TASKS[:1], trials=16, source="another", on_progress=stop_after(4))
    resumed = tune(tmp_path, resume=True)
    assert (resumed.run, resumed.trials, resumed.ended) == (first.run, 24, "all trials measured")
    resumed = tune(tmp_path, trials=30, resume=True)
    assert (resumed.run, resumed.trials) == (first.run, 30)
    other = tune(tmp_path, TASKS[:1], source="another", resume=True)
    assert other.run != first.run
    assert other.trials == 16
    assert len(records(tmp_path, Run)) == 2
    new = tune(tmp_path, TASKS[1:], trials=8, source="a third", resume=True)
    assert new.run not in (first.run, other.run)
    assert new.trials == 8


def test_what_has_won_is_measured_second_and_raced_in_a_later_run(tmp_path):
    (task,) = tasks = TASKS[:1]
    tune(tmp_path, tasks, trials=10_000)
    (winner,) = records(tmp_path, Winner)
    assert winner.won
    again = FixedLatencyRunner()
    tune(tmp_path, tasks, trials=2, runner=again)
    assert not again.measured  # all of it is known
    elsewhere = FixedLatencyRunner()
    tuner = tune(tmp_path / "new", tasks, trials=2, runner=elsewhere, known=lambda _: winner.decisions)
    assert elsewhere.measured == [(task.workload, tuner.states[0].space.default), (task.workload, winner.decisions)]
    assert records(tmp_path / "new", Winner)[0].won


def test_a_run_that_races_nothing_says_nothing_of_a_winner(tmp_path):
    tune(tmp_path, TASKS[:1], trials=1)
    assert records(tmp_path, Winner) == []


def test_where_nothing_comes_near_the_default_the_log_says_so(tmp_path):
    default = space_of(TASKS[0].workload, host_target()).default
    tuner = tune(tmp_path, TASKS[:1], trials=4, runner=(runner := FixedLatencyRunner(fails=lambda d: d != default)))
    assert runner.raced == 0
    (winner,) = records(tmp_path, Winner)
    assert (winner.decisions, winner.won, winner.raced) == (default, False, ())
    assert not tuner.kernels[0].won
    schedules = TunedSchedules.of(host_target(), 1, tmp_path)
    assert schedules.source(Variant(TASKS[0].workload)) == "default: nothing beat it, user log"
    tune(tmp_path, TASKS[:1], trials=8, resume=True)
    assert records(tmp_path, Winner)[-1].won


@pytest.mark.slow
def test_the_same_seed_and_log_give_the_same_candidates(tmp_path):
    orders = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        tune(tmp_path / name, trials=48, seed=seed)
        orders.append([(t.workload, t.decisions, t.seconds) for t in records(tmp_path / name)])
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_without_resume_a_new_run_measures_as_many_more(tmp_path):
    first, second = tune(tmp_path, trials=20), tune(tmp_path, trials=20)
    assert first.run != second.run
    assert len(records(tmp_path)) == 40
    assert len({(t.workload, t.decisions) for t in records(tmp_path)}) == 40


def test_a_run_is_resumed_by_one_process_at_a_time(tmp_path):
    process = start(tmp_path, latency=0.05, trials=500)
    wait_for_lines(tmp_path, 3)
    try:
        with pytest.raises(TuningError, match="is being tuned by another process"):
            tune(tmp_path, trials=500, resume=True)
    finally:
        process.kill()
        process.join()
    tune(tmp_path, trials=32, resume=True)  # a dead process holds no lock


def test_two_processes_in_one_folder(tmp_path):
    processes = [start(tmp_path, trials=40, seed=seed) for seed in (1, 1)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    runs = {run.run for run in records(tmp_path, Run)}
    assert len(runs) == 2
    for run in runs:
        assert sorted(t.number for t in records(tmp_path) if t.run == run) == list(range(1, 41))
    assert verify(tmp_path) == []


class Clock:
    """A clock that only moves where a runner takes its time."""

    now = 1000.0

    def monotonic(self):
        return self.now


class ClockedRunner(FixedLatencyRunner):
    """Takes 50 ms of a clock for each candidate, and for a race all the seconds that it is given."""

    def __init__(self, clock):
        super().__init__(latency=0)
        self.clock = clock

    def run_all(self, workload, built):
        for measured in super().run_all(workload, built):
            self.clock.now += 0.05
            yield measured

    def confirm(self, workload, candidates, seconds):
        self.clock.now += seconds
        return super().confirm(workload, candidates, seconds)


def test_minutes_end_in_time_with_winners(tmp_path, monkeypatch):
    clock = Clock()
    for module in (scheduler, tune_module):
        monkeypatch.setattr(module, "time", clock)
    result = tune(tmp_path, minutes=0.05, strategy="replay", runner=ClockedRunner(clock))
    assert 2.5 < clock.now - Clock.now <= 3
    assert result.ended == "time is up"
    assert {winner.workload for winner in records(tmp_path, Winner)} == {task.workload for task in TASKS}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_was_found(number, tmp_path):
    process = start(tmp_path, latency=0.05, trials=500)
    wait_for_lines(tmp_path, 30)
    os.kill(process.pid, signal.SIGSTOP)  # so that it gets no further while its trials are counted
    before = Log(tmp_path, KEY).path.read_bytes().count(b'"trial"')
    os.kill(process.pid, number)
    os.kill(process.pid, signal.SIGCONT)
    process.join(60)
    assert process.exitcode == 0
    assert len(records(tmp_path)) <= before + BATCH  # no more than was under way
    assert records(tmp_path, Winner)
    assert verify(tmp_path) == []
    tune(tmp_path, trials=80, resume=True)
    assert numbers(tmp_path) == list(range(1, 81))


@pytest.mark.slow
def test_it_ends_when_nothing_improves_or_is_left(tmp_path):
    result = tune(tmp_path, per_kernel=None)
    spaces = {task.workload: space_of(task.workload, host_target()) for task in TASKS}
    assert "nothing improves any more" in result.ended or "exhausted" in result.ended
    assert result.trials < sum(map(len, spaces.values()))
    exhausted = tune(tmp_path / "all", trials=10_000, strategy="exhaustive")
    assert exhausted.ended == "its space is exhausted"
    assert exhausted.trials == sum(map(len, spaces.values()))
    for winner in records(tmp_path / "all", Winner):
        assert winner.decisions == min(spaces[winner.workload], key=fake_seconds)


def test_failed_candidates_are_stored_as_failed_and_never_win(tmp_path):
    fastest = {min(space_of(task.workload, host_target()), key=fake_seconds) for task in TASKS}
    result = tune(tmp_path, trials=10_000, runner=FixedLatencyRunner(0, fails=lambda d: d in fastest))
    failed = [trial for trial in records(tmp_path) if trial.seconds is None]
    assert {trial.decisions for trial in failed} >= fastest
    assert all(trial.error == "it failed" for trial in failed)
    assert not fastest & {winner.decisions for winner in records(tmp_path, Winner)}
    assert result.trials == len(records(tmp_path))


def test_candidates_that_do_not_fit_are_no_trials(tmp_path):
    def fits(decisions):
        return decisions[0][-1] == 1

    result = tune(tmp_path, trials=10_000, strategy="model", runner=(runner := FixedLatencyRunner(0, fits=fits)))
    assert result.trials == len(runner.measured)
    for state in result.states:
        measured = {decisions for workload, decisions in runner.measured if workload == state.task.workload}
        assert measured == {point for point in state.space if fits(point)} | {state.space.default}


@pytest.mark.slow
def test_a_run_learns_from_other_shapes_and_begins_with_what_won_for_them(tmp_path):
    (first, _, second), orders = TASKS, {}
    for transfer in (False, True):
        folder, runner = tmp_path / str(transfer), FixedLatencyRunner(0)
        tune(folder, tasks=[first], trials=32, runner=FixedLatencyRunner(0))
        tune(folder, tasks=[second], trials=4, runner=runner, strategy="transfer" if transfer else "model")
        orders[transfer] = [decisions for _, decisions in runner.measured]
    (won,) = (winner for winner in records(tmp_path / "True", Winner) if winner.workload == first.workload)
    space = space_of(second.workload, host_target())
    assert won.won
    assert orders[True][:2] == [space.default, fit(won.decisions, space)]
    # what the trees have learned of the first kernel ranks the points of the second
    assert np.mean([fake_seconds(d) for d in orders[True][2:]]) < np.mean([fake_seconds(d) for d in orders[False][1:]])


def test_servers_measure_no_gpu(tmp_path):
    options = TuneOptions(target="cuda/h200", work_dir=tmp_path, trials=1, rpc=RpcOptions("127.0.0.1", 9190, "k"))
    with pytest.raises(TuningError, match="is a GPU, and servers measure on their CPU"):
        tune_tasks(TASKS, options, "a test")
    assert not list(tmp_path.iterdir())


def test_shards_have_all_kernels_together(tmp_path):
    done = [tune(tmp_path / str(i), trials=8, shard=(i, 2)).kernels for i in (1, 2)]
    assert sorted(row.kernel for rows in done for row in rows) == sorted(task.title for task in TASKS)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"minutes": 0}, TuningError, "minutes was 0"),
        ({"trials": -1}, TuningError, "trials was -1"),
        ({"shard": (3, 2)}, TuningError, "shard was 3/2"),
        ({"seed": -1}, TuningError, "seed was -1; give 0 or more"),
        ({"strategy": "magic"}, TuningError, '"magic" is unknown; choose one of model'),
        ({"threads": 0}, InputError, "threads is 0"),
        ({"target": {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}}, TargetError, "is not this machine"),
    ],
)
def test_wrong_options_get_a_sentence(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        tune_tasks(TASKS, TuneOptions(work_dir=tmp_path, **options), "a test")
    assert not list(tmp_path.rglob("log.jsonl")) or "target" in options


def test_a_folder_that_is_a_file_gets_a_sentence(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TuningError, match=r"file/.* cannot be written \(Not a directory\); choose another"):
        tune(tmp_path / "file", trials=1)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_whose_lock_cannot_be_made_gets_a_sentence(tmp_path):
    run = tune(tmp_path, trials=1).run
    (tmp_path / KEY / f".run-{run}.lock").mkdir()
    with pytest.raises(TuningError, match=r"cannot be written .*; choose another folder"):
        tune(tmp_path, trials=2, resume=True)


def test_a_log_of_a_running_tuner_is_not_pruned(tmp_path):
    process = start(tmp_path, latency=0.05, trials=500)
    wait_for_lines(tmp_path, 3)
    try:
        with pytest.raises(TuningError, match=r"is being written by run .*; compact it when that has ended"):
            compact(tmp_path)
    finally:
        process.kill()
        process.join()
    assert compact(tmp_path) > 0  # a dead process holds no lock


def test_a_log_that_cannot_be_used_is_not_touched(tmp_path):
    path = Log(tmp_path, KEY).path
    path.parent.mkdir()
    path.write_text("mine\n")
    with pytest.raises(TuningError, match="not a tuning log"):
        tune(tmp_path, trials=1)
    assert path.read_text() == "mine\n"


def test_packed_bytes():
    assert packed_bytes(TASKS[0]) == 768 * 64 * 4


@pytest.mark.slow
def test_a_model_is_tuned_and_compiled_with_what_was_found(mlp, tmp_path):
    pytest.importorskip("xgboost")
    import tvm_balanced as tb

    imported = tb.api.import_model(*mlp)
    result = tune_imported(imported, TuneOptions(work_dir=tmp_path, trials=10, threads=1))
    assert result.trials == 10
    assert {row.layers for row in result.kernels} == {("0",), ("2",)}
    assert all(row.default_us > 0 and row.best_us <= row.default_us and row.over_dense > 0 for row in result.kernels)
    module = tb.compile(*mlp, logs=tmp_path, threads=1)
    won = {row.layers[0] for row in result.kernels if row.won}
    for layer in module.report.layers:
        expected = ("tuned: user log",) if layer.layer in won else ("default", "default: nothing beat it, user log")
        assert layer.schedule in expected
