"""A tuning run inside MetaSchedule's `tune_tasks`: spends a budget where the model spends its time, and keeps the results."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import tvm
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.core.ratio import Ratio
from tvm_balanced.schedules.base.kernel import Tuned
from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning.log.crash_guard import InFlight
from tvm_balanced.tuning.log.database import LogDatabase
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Measured, Record, Trial, Winner
from tvm_balanced.tuning.plugins.builder import Builder
from tvm_balanced.tuning.plugins.measure_callback import Keep
from tvm_balanced.tuning.plugins.runner import BatchRunner
from tvm_balanced.tuning.plugins.search_strategy import Search, measure_candidate
from tvm_balanced.tuning.plugins.session import Batch
from tvm_balanced.tuning.plugins.task_scheduler import END, Scheduler
from tvm_balanced.tuning.runners.base import Confirmed, Runner
from tvm_balanced.tuning.search import STRATEGIES, TRANSFER, cost_model
from tvm_balanced.tuning.search.nearest import first_candidates
from tvm_balanced.tuning.search.tune_context import random_state, space_generator, tune_context
from tvm_balanced.tuning.task_state import State
from tvm_balanced.tuning.tasks import Task

# Trials between two decisions where to spend next, and between two writes of the log: of eight, the search learns less often, and
# MetaSchedule holds eight compiled kernels of 4 MB at once.
BATCH = 4
TOGETHER = 2  # times as many for each server or GPU, where candidates are compiled together
PATIENCE = 32  # a kernel is done after so many trials without improvement
NEAREST = 2  # candidates of a kernel that won for other shapes
RACE_SECONDS = 2.0  # for the race of one kernel
RACE_AND_BUILD = 3.0  # including the work before it
RACES_SHARE = 0.3  # at most this share of the minutes is reserved for races
STOP_SECONDS = 5.0  # for all races after Ctrl-C
NO_LIMIT = 1 << 30  # of MetaSchedule's trials: the budget is ours
OVERTIME = 5.0  # no race starts later than this after the deadline


@dataclass(frozen=True)
class Budget:
    """When to end: at the first of these limits, or without limits when nothing improves any more.

    Parameters
    ----------
    trials : int or None
        Trials of the whole run, including those before a resume.
    per_kernel : int or None
        Trials of each kernel.
    minutes : float or None
        Time until the races of the winners have ended.
    started : float
        When the minutes began, on time.monotonic.
    """

    trials: int | None = None
    per_kernel: int | None = None
    minutes: float | None = None
    started: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds until the minutes are over."""
        return math.inf if self.minutes is None else self.started + 60 * self.minutes - time.monotonic()


@dataclass
class Tuner:
    """Tune tasks with a runner, and write everything to a log.

    Parameters
    ----------
    tasks : sequence of Task
    target : tvm.target.Target
    runner : Runner
    log : Log
    run : str
        Name of the run; its records in the log count towards the budget.
    budget : Budget
    threads : int
        Threads of a timed call.
    seed : int
    strategy : str
        A name of STRATEGIES.
    on_progress : callable
        Called with this tuner after each candidate and each race.
    known : callable, optional
        From a workload to the decisions that compiling a model would use now, None for the default.
    winners : sequence of Winner
        What won for other shapes. With the strategy TRANSFER the nearest to a kernel's are measured first, and the cost model
        learns from all that the log has measured on so many threads.
    """

    tasks: Sequence[Task]
    target: tvm.target.Target
    runner: Runner
    log: Log
    run: str
    budget: Budget
    threads: int
    seed: int
    strategy: str
    on_progress: Callable[["Tuner"], None] = lambda _: None
    known: Tuned | None = None
    winners: Sequence[Winner] = ()
    states: list[State] = field(init=False)
    stopped: str = field(default="", init=False)  # why the run was stopped before the budget was spent
    ended: str = field(default="there is nothing to tune", init=False)  # why measuring ended
    _batch: Batch | None = field(default=None, init=False)
    failure: BaseException | None = field(default=None, init=False)
    trials: int = field(default=0, init=False)  # trials of the run, including those before a resume
    phase: str = field(default="measuring", init=False)
    _flight: InFlight = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.runner.stop = self.halted
        self.cost_model = cost_model(self.strategy, self.seed)
        self.states = [self._state(task) for task in self.tasks]
        self._take(self.log.read().records)

    def stop(self, why: str = "interrupted") -> None:
        """End the run soon, and keep what was found; may be called from a signal handler."""
        self.stopped = self.stopped or why

    def tune(self) -> str:
        """Measure until the budget is spent, then race the winners; return why it ended."""
        if self.states:
            self._tune_tasks()
        if self.failure is not None:
            raise self.failure
        self._race_all()
        return self.ended

    def _tune_tasks(self) -> None:
        """Run MetaSchedule's loop with our plug-ins."""
        contexts = [self._context(place, state) for place, state in enumerate(self.states)]
        if self.cost_model is not None:
            for context, state in zip(contexts, self.states, strict=True):
                self._teach(context, state)
        callbacks = [Keep(self), *([ms.measure_callback.UpdateCostModel()] if self.cost_model is not None else [])]
        try:
            ms.tune.tune_tasks(
                tasks=contexts,
                task_weights=[float(state.task.calls) for state in self.states],
                work_dir=str(self.log.folder),
                max_trials_global=NO_LIMIT,
                num_trials_per_iter=self._batch_size,
                builder=Builder(self),
                runner=BatchRunner(self),
                database=LogDatabase(self.log, self.target, self.threads),
                cost_model=self.cost_model or "none",
                measure_callbacks=callbacks,
                task_scheduler=Scheduler(self),
            )
        except BaseException as error:
            raise self.failure or error from None

    def _context(self, place: int, state: State) -> Any:
        workload = state.task.workload
        return tune_context(
            state.space.func.with_attr("estimated_flops", workload.flops),
            self.target,
            task_name=state.task.title,
            space_generator=space_generator(workload, self.target),
            search_strategy=Search(self, place, state.space, state.strategy),
            rand_state=random_state(self.seed),
        )

    def _teach(self, context: Any, state: State) -> None:
        """Let the cost model learn what is known already."""
        known = [(point, seconds) for point, seconds in state.strategy.seen.items() if seconds is not None]
        if known:
            arguments = ms.arg_info.ArgInfo.from_prim_func(state.space.func)
            candidates = [measure_candidate(state.space, point, arguments) for point, _ in known]
            self.cost_model.update(context, candidates, [ms.runner.RunnerResult([seconds], None) for _, seconds in known])

    @property
    def batch(self) -> Batch:
        """The batch that is under way; see Session."""
        assert self._batch is not None
        return self._batch

    @property
    def waiting(self) -> bool:
        """Whether there is one; see Session."""
        return self._batch is not None

    def drop(self) -> None:
        """End the batch; see Session."""
        self._batch = None

    def next_task(self) -> int:
        """Return the number of the kernel to spend on, -1 if measuring ends; see Session."""
        reason = self._finished()
        if reason is not None:
            self.ended = reason
            return END
        return self.states.index(self._next())

    def propose(self, task: int) -> list[Decisions]:
        """Begin a batch of a kernel; see Session."""
        state = self.states[task]
        self.drop()
        points = self._points(state)
        if not points:
            state.done = "its space is exhausted"
            return []
        if state.dense is None:
            state.dense = self.runner.dense_seconds(state.task.workload)
        self._batch, self._flight = Batch(state.task.workload, points), InFlight(self.log.folder, self.run)
        return points

    def begins(self, decisions: Decisions) -> bool:
        """Note what is built or measured now; see Session."""
        return self._flight.begin(self.batch.workload, decisions)

    def halted(self) -> bool:
        """Whether the batch is to end early; see Session."""
        return bool(self.stopped) or self.failure is not None or self._time_is_up()

    def progressed(self) -> None:
        """Show progress; see Session."""
        self.on_progress(self)

    def fail(self, error: BaseException) -> None:
        """End the run with an exception; see Session."""
        self.failure = self.failure or error

    def keep(self, task: int, results: Sequence[Measured]) -> None:
        """Log the results of a batch, which is over; see Session."""
        state = self.states[task]
        self.drop()
        self._flight.end()
        self._keep(state, results)
        if results and state.best is None:
            state.done = f"no candidate runs: {results[0].error}"

    def _state(self, task: Task) -> State:
        space = space_of(task.workload, self.target)
        known = self.known(task.workload) if self.known is not None else None
        strategy = STRATEGIES[self.strategy](space, self.seed, task.workload, self.target, self.cost_model)
        near = first_candidates(task.workload, space, self.winners, NEAREST) if self.strategy == TRANSFER else ()
        return State(task, space, strategy, known=known, near=tuple(near))

    def _take(self, records: Iterable[Record]) -> None:
        """Read the log's records of these tasks, from this run and others."""
        states = {state.task.workload: state for state in self.states}
        for record in records:
            if not isinstance(record, (Trial, Winner)):
                continue
            own = record.run == self.run
            if own and isinstance(record, Trial):
                self.trials = max(self.trials, record.number)
            if record.threads != self.threads:
                continue
            if record.workload in states:
                states[record.workload].take(record, own)
            elif self.strategy == TRANSFER and isinstance(record, Trial) and record.seconds is not None:
                self._learn_of_other(record, record.seconds)

    def _learn_of_other(self, trial: Trial, seconds: float) -> None:
        """Let the cost model learn of a kernel that this run does not tune."""
        self.cost_model.join(trial.workload, trial.space)
        self.cost_model.learn(trial.workload.title, trial.decisions, seconds)

    def _finished(self) -> str | None:
        """Why measuring ends now, None while it continues."""
        if self.stopped or self.failure is not None:
            return self.stopped or "it failed"
        if self.budget.trials is not None and self.trials >= self.budget.trials:
            return "all trials measured"
        if self._time_is_up():
            return "time is up"
        for state in self.states:
            state.done = state.done or self._done(state)
        if all(state.done for state in self.states):
            return "; ".join(dict.fromkeys(state.done for state in self.states)) or "there is nothing to tune"
        return None

    def _done(self, state: State) -> str:
        if self.budget.per_kernel is not None and state.trials >= self.budget.per_kernel:
            return "all trials measured"
        if len(state.space) == 1:
            return "its space is exhausted"
        planned = self.budget.trials is not None or self.budget.per_kernel is not None
        return "nothing improves any more" if state.stale >= PATIENCE and not planned else ""

    def _time_is_up(self) -> bool:
        """Whether the rest of the minutes is needed for races."""
        if self.budget.minutes is None:
            return False
        return self.budget.left() < min(RACE_AND_BUILD * len(self.states), RACES_SHARE * 60 * self.budget.minutes)

    def _next(self) -> State:
        """Choose the kernel to spend on: first those that were never measured, then by the time
        that the model may still save.
        """
        active = [state for state in self.states if not state.done]
        fresh = [state for state in active if state.fresh]
        return fresh[0] if fresh else max(active, key=lambda state: state.model_seconds / (1 + state.stale / BATCH))

    @property
    def _batch_size(self) -> int:
        return BATCH if self.runner.parallel == 1 else TOGETHER * BATCH * self.runner.parallel

    def _points(self, state: State) -> list[Decisions]:
        count = self._batch_size
        for limit, spent in ((self.budget.trials, self.trials), (self.budget.per_kernel, state.trials)):
            count = count if limit is None else min(count, limit - spent)
        if not state.fresh:
            return self._proposed(state, count)
        first = [point for point in (state.space.default, state.known, *state.near) if point is not None]
        return list(dict.fromkeys([*first, *self._proposed(state, count)]))[:count]

    def _proposed(self, state: State, count: int) -> list[Decisions]:
        """Return the strategy's proposals without those that do not fit the target: these are no
        trials, and are not proposed again.
        """
        fitting: list[Decisions] = []
        while len(fitting) < count and (proposed := state.strategy.propose(count)):
            fits = {point: self.runner.fits(state.task.workload, point) for point in proposed}
            state.strategy.tell([Measured(point, None, "it does not fit") for point in proposed if not fits[point]])
            fitting += [point for point in proposed if fits[point] and point not in fitting]
            if all(fits.values()):
                break
        return fitting[:count]

    def _keep(self, state: State, results: Sequence[Measured]) -> None:
        if not results:
            return
        workload, space = state.task.workload, state.space.fingerprint
        records = [
            Trial(self.run, self.trials + i, workload, self.threads, space, r.decisions, r.seconds, r.error, now())
            for i, r in enumerate(results, 1)
        ]
        others = self.log.append(records)
        self.trials += len(results)
        state.learn(results)
        self._take(others)

    def _race_all(self) -> None:
        """Race the best candidates of each kernel with its default if that was not done; kernels
        with the most time come first.
        """
        self.phase = "racing the winners"
        waiting = [state for state in self.states if state.best is not None and state.to_race]
        stopped_at = time.monotonic()
        for place, state in enumerate(sorted(waiting, key=lambda state: -state.model_seconds)):
            left = self.budget.left() / (len(waiting) - place)
            if self.stopped:
                left = min(left, STOP_SECONDS + stopped_at - time.monotonic())
            if left <= -OVERTIME or (self.stopped and left <= 0):
                return
            self._race(state, min(RACE_SECONDS, max(left, 0.2)))
            self.on_progress(self)

    def _race(self, state: State, seconds: float) -> None:
        finalists = state.finalists()
        found = self.runner.confirm(state.task.workload, finalists, seconds) if finalists else None
        found = found or Confirmed(state.space.default, Ratio(1.0, 1.0, 1.0), None)  # no candidate is correct, or close enough
        won = found.decisions != state.space.default and found.faster
        workload, space = state.task.workload, state.space.fingerprint
        outcome = (found.decisions, won, found.gain, found.max_error, now(), finalists)
        winner = Winner(self.run, workload, self.threads, space, *outcome)
        self._take(self.log.append([winner]))
        state.winner = winner


def now() -> str:
    """Return the current time in the format of records."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
