"""Tune the kernel of a cell into a tuning log, with the package's own tuner."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from tvm import tirx

from benchmarks.gpu.device import Device
from benchmarks.gpu.layer import Cell
from tvm_balanced.runtime import environment
from tvm_balanced.tuning.log import manifest
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Run
from tvm_balanced.tuning.scheduler import Budget, Tuner, now
from tvm_balanced.tuning.search import DEFAULT
from tvm_balanced.tuning.tasks import Task


@dataclass(frozen=True)
class Found:
    """The result of a search: the best schedule, how many times faster than the default it is, and
    the measurements.
    """

    func: tirx.PrimFunc
    gain: float
    trials: int


def tune(cell: Cell, device: Device, logs: Path, seconds: float, candidates: int, strategy: str = DEFAULT) -> Found:
    """Search for the fastest schedule of a cell. All measurements go to the log of the device's key.

    Parameters
    ----------
    cell : Cell
    device : Device
    logs : Path
        Folder of tuning logs.
    seconds : float
        Time until the best has been raced with the default.
    candidates : int
        Maximum number of candidates to measure.
    strategy : str
        One of `tvm_balanced.tuning.search.STRATEGIES`.

    Raises
    ------
    RuntimeError
        If no candidate ran, or if the best were wrong.
    """
    log, workload = Log(logs, device.key), cell.workload
    log.folder.mkdir(parents=True, exist_ok=True)
    manifest.write(log, device.target, device.name)
    log.create()
    run = Run(secrets.token_hex(4), {"source": "benchmarks.gpu", "per_kernel": candidates}, environment.versions(), now())
    log.append([run])
    runner = device.runner()
    budget = Budget(per_kernel=candidates, minutes=seconds / 60)
    tuner = Tuner([Task(workload)], device.target, runner, log, run.run, budget, 1, 0, strategy)
    try:
        ended = tuner.tune()
    finally:
        runner.close()
    (state,) = tuner.states
    winner = state.winner
    if state.best is None or (winner is not None and winner.raced and winner.max_error is None):
        raise RuntimeError(f"no candidate for {cell} is usable: {ended}")
    decisions, gain = (state.space.default, 1.0) if winner is None else (winner.decisions, winner.gain.p50)
    return Found(state.space.replay(decisions), gain, state.trials)
