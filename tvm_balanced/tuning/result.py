"""The result of a tuning run, for people and programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tvm_balanced.tuning.task_state import State


@dataclass(frozen=True)
class Tuned:
    """The outcome for one kernel. `gain` and `over_dense` say how many times faster it is; None if
    it was not measured.
    """

    kernel: str
    layers: tuple[str, ...]
    calls: int
    trials: int
    space: int
    default_us: float | None
    best_us: float | None
    gain: float | None
    won: bool
    over_dense: float | None
    share: float


@dataclass(frozen=True)
class TuningResult:
    """The result of a tuning run.

    Parameters
    ----------
    folder : Path
        The log's folder; pass its parent to `compile` as `logs`.
    run : str
        Name of the run in the log.
    ended : str
        Why it ended.
    trials : int
        Trials of the run, including those before a resume.
    kernels : tuple of Tuned
    states : list of State
        All measurements, for the report.
    """

    folder: Path
    run: str
    ended: str
    trials: int
    kernels: tuple[Tuned, ...]
    states: list[State]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {
            "folder": str(self.folder),
            "run": self.run,
            "ended": self.ended,
            "trials": self.trials,
            "kernels": [asdict(kernel) for kernel in self.kernels],
        }


def rows(states: Sequence[State]) -> list[Tuned]:
    """Return one row per kernel, for people, sorted by the kernel's time in the model."""
    total = sum(state.model_seconds for state in states)
    found = []
    for state in sorted(states, key=lambda s: -s.model_seconds):
        winner = state.winner
        gain = None if winner is None else winner.gain.p50 if winner.won else 1.0
        if gain is None and state.default and state.best:
            gain = state.default / state.best
        used = state.default if winner is not None and not winner.won else state.best
        found.append(
            Tuned(
                kernel=state.task.title,
                layers=state.task.layers,
                calls=state.task.calls,
                trials=state.trials,
                space=len(state.space),
                default_us=_us(state.default),
                best_us=_us(state.best),
                gain=gain,
                won=winner is not None and winner.won,
                over_dense=state.dense / used if state.dense and used else None,
                share=state.model_seconds / total if total else 0.0,
            )
        )
    return found


def _us(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e6
