"""The work of the run-book, in units that each end with a result, in the order of what they tell.

The plan has sections, each with a share of the time. A section whose share is spent waits until all
others have had theirs, so that a lease of eight minutes says something of everything.
"""

import gc
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import correctness, models, profile
from benchmarks.gpu.cells import GPU_SHAPES, STAND_IN_SHAPES, Shapes, by_section
from benchmarks.gpu.device import Device
from benchmarks.gpu.folder import DONE, FAILED, MACHINE_UNITS, Folder
from benchmarks.gpu.layer import Cell, limit_of
from benchmarks.gpu.measuring import COLUMNS, KEY, OURS, ceilings_of, measure, measure_ceilings, vendor_ceilings
from benchmarks.gpu.tuning import tune
from benchmarks.gpu.worst import worst_of
from tvm_balanced.runtime import environment
from tvm_balanced.tuning.search import DEFAULT

ROOT = Path(__file__).parents[2]
# pytest in a process that ends with this one: a killed worker must not leave it running on the GPU
PYTEST = """
import sys
import pytest
from benchmarks.gpu.supervise import end_with_parent
end_with_parent()
sys.exit(pytest.main(sys.argv[1:]))
"""


# Seconds of each section, in order, for a run of eight minutes of which half a minute is spent on
# starting; what is not named here waits for all of these.
SHARES = {
    "machine": 10.0,
    "correctness": 60.0,
    "short": 115.0,  # cells that fall short of what is wanted, and small layers
    "bfloat16": 30.0,
    "models": 105.0,
    "2:4": 20.0,  # many rows of x, beside cuSPARSELt
    "search": 80.0,
    "counters": 30.0,
}
SEARCHED, COUNTED = 4, 2  # of the worst cells, how many are searched, and how many are looked at with Nsight Compute
KNOWN = 3  # units of a kind after which its longest says how long the next one takes


@dataclass(frozen=True)
class Effort:
    """How much time and data to spend.

    Parameters
    ----------
    measuring, tuning, searching : float
        Seconds to time a cell, to search one, and to search one of the worst cells.
    candidates : int
        Maximum number of candidates of a search.
    copied : int
        Bytes of each array of the bandwidth test.
    edge : int
        Edge of the matrices whose product gives the arithmetic rates.
    """

    measuring: float = 1.5
    tuning: float = 30
    searching: float = 14
    candidates: int = 96
    copied: int = 2 << 30
    edge: int = 8192


STAND_IN_EFFORT = Effort(measuring=0.1, tuning=60, searching=60, candidates=4, copied=1 << 16, edge=16)


@dataclass(frozen=True)
class Unit:
    """One thing to do. It does not start with less than `seconds` left, and returns a note on its result."""

    name: str
    seconds: float
    run: Callable[[], str]
    section: str = "rest"

    @property
    def kind(self) -> str:
        """What units that take about as long have in common: "measure", or "search"."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class RunBook:
    """A device, the folder of its results, and the end of its time on the clock of time.time."""

    device: Device
    folder: Folder
    until: float
    shapes: Shapes
    effort: Effort

    @classmethod
    def of(cls, device: Device, folder: Folder, until: float) -> "RunBook":
        """Return the book for a device. The stand-in does the same on tiny shapes."""
        if device.stand_in:
            return cls(device, folder, until, STAND_IN_SHAPES, STAND_IN_EFFORT)
        return cls(device, folder, until, GPU_SHAPES, Effort())

    def plan(self) -> list[Unit]:
        """Return all units."""
        first, later = correctness.cases(self.device)
        cells = by_section(self.device, self.shapes)
        rest = cells.pop("rest")
        return [
            Unit(MACHINE_UNITS[0], 0, self._environment, "machine"),
            Unit(MACHINE_UNITS[1], 5, self._ceilings, "machine"),
            *(Unit(f"correct: {case}", 5, partial(self._correct, case), "correctness") for case in first),
            *self._measuring("short", cells["short"]),
            *self._measuring("bfloat16", cells["bfloat16"]),
            *self._models(),
            *self._measuring("2:4", cells["2:4"]),
            *(Unit(f"search: worst {i}", self.effort.searching + 6, self._search, "search") for i in range(1, SEARCHED + 1)),
            *(Unit(f"counters: worst {i}", 15, partial(self._counters, i), "counters") for i in range(1, COUNTED + 1)),
            Unit("tests marked cuda", 40, self._tests),
            *self._measuring("rest", rest),
            *(Unit(f"correct: {case}", 5, partial(self._correct, case)) for case in later),
            *(
                Unit(f"tune: {cell}", self.effort.tuning + 15, partial(self._tune, cell))
                for cell in dict.fromkeys(cell for part in (*cells.values(), rest) for cell in part)
            ),
        ]

    def _measuring(self, section: str, cells: Sequence[Cell]) -> list[Unit]:
        return [Unit(f"measure: {cell}", 12, partial(self._measure, cell), section) for cell in cells]

    def _models(self) -> list[Unit]:
        """Models with attention first; the others have been measured before."""
        cases = models.STAND_IN_CASES if self.device.stand_in else models.CASES
        return [Unit(f"model: {case}", 45, partial(self._model, case), "models") for case in cases]

    def _environment(self) -> str:
        facts = environment.describe()
        facts["findings"] = [finding.text for finding in facts["findings"]]
        device = {"gpu": self.device.name, "cache_bytes": self.device.cache_bytes, "target": str(self.device.target)}
        self.folder.learn({**facts, **device, "nvidia-smi": _nvidia_smi()})
        return self.device.name

    def _ceilings(self) -> str:
        found = measure_ceilings(self.device, self.effort.copied, self.effort.edge)
        self.folder.learn({"ceilings": found})
        return f"{found['copy_gbytes']:.0f} GB/s copied, {found['read_gbytes']:.0f} GB/s read"

    def _correct(self, case: correctness.Case) -> str:
        error = correctness.check(case, self.device)
        self.folder.append("correctness.csv", correctness.COLUMNS, [correctness.row(case, self.device, error)])
        if not error <= (limit := limit_of(case.kernel, case.dtype)):
            raise RuntimeError(f"relative error {error:.1e}, {limit:.0e} is allowed")
        return f"{error:.1e}"

    def _measure(self, cell: Cell, scheduled: Any = None) -> str:
        there = {tuple(row[name] for name in KEY) for row in self.folder.read("gpu.csv")}
        if tuple(str(value) for value in cell.row().values()) in there:
            return "its rows are there"
        found = self.folder.facts().get("ceilings")
        ceilings = ceilings_of(found) if found else vendor_ceilings(self.device)
        rows = measure(cell, self.device, ceilings, self.effort.measuring, scheduled)
        self.folder.append("gpu.csv", COLUMNS, rows)
        return ", ".join(f"{row['rival']} {row['us' if row['rival'] == OURS else 'p50']}" for row in rows if "us" in row)

    def _tune(self, cell: Cell, seconds: float | None = None, strategy: str | None = None) -> str:
        budget = min(self.effort.tuning if seconds is None else seconds, self.until - time.time() - 15)
        found = tune(cell, self.device, self.folder.logs, budget, self.effort.candidates, strategy or _strategy(DEFAULT))
        gain = f"{found.gain:.2f}x of {found.trials} candidates"
        return f"{gain}; {self._measure(cell.tuned, found.func)}"

    def _search(self) -> str:
        """Search the worst cell that has not been searched, with MetaSchedule's own search and cost model."""
        left = worst_of(self.folder.read("gpu.csv"), searched=False)
        if not left:
            raise RuntimeError("no cell has been measured that is not tuned yet")
        strategy = _strategy("evolutionary")
        return f"{left[0]} by {strategy}: {self._tune(left[0], self.effort.searching, strategy)}"

    def _counters(self, place: int) -> str:
        """Look at one of the worst cells with Nsight Compute."""
        if self.device.stand_in:
            return "a stand-in has no counters"
        cells = worst_of(self.folder.read("gpu.csv"))
        if len(cells) < place:
            raise RuntimeError(f"only {len(cells)} cells have been measured")
        found = profile.counters([str(cells[place - 1])], self.until - time.time())
        self.folder.learn({"counters": self.folder.facts().get("counters", {}) | found})
        return ", ".join(f"{name} {value}" for values in found.values() for name, value in values.items())

    def _model(self, case: models.Case) -> str:
        return "; ".join(models.measure(case, self.device, self.folder))

    def _tests(self) -> str:
        command = [sys.executable, "-c", PYTEST, "-m", "cuda", "-q", "--tb=line", "-p", "no:cacheprovider", "tests/runtime/cuda"]
        limit = max(10.0, min(180.0, self.until - time.time()))
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
        said = done.stdout.strip().splitlines() or [done.stderr.strip()]
        if done.returncode:
            raise RuntimeError("; ".join(line for line in said if line.startswith(("FAILED", "ERROR"))) or said[-1])
        return said[-1]


def only(units: Sequence[Unit], patterns: Sequence[str] | None) -> list[Unit]:
    """Return the units that match one of `patterns`, in order, after MACHINE_UNITS; all units if
    there are no patterns.
    """
    every, others = units[: len(MACHINE_UNITS)], units[len(MACHINE_UNITS) :]
    if not patterns:
        return list(units)
    chosen = [unit for pattern in patterns for unit in others if fnmatch(unit.name, pattern)]
    return [*every, *dict.fromkeys(chosen)]


def slice_of(units: Sequence[Unit], part: int, parts: int) -> list[Unit]:
    """Return one of `parts` slices of a plan, from 1 up; each begins with MACHINE_UNITS."""
    every, dealt = units[: len(MACHINE_UNITS)], units[len(MACHINE_UNITS) :]
    return [*every, *dealt[part - 1 :: parts]]


def work(book: RunBook, units: Sequence[Unit]) -> int:
    """Do the remaining units until time is out; return the exit status, 1 if the device must be reopened.

    The first round gives every section its share of the time, the second does what is left.
    """
    status = _round(book, [unit for unit in units if unit.section in SHARES], SHARES)
    return status or _round(book, units, {})


def _round(book: RunBook, units: Sequence[Unit], shares: Mapping[str, float]) -> int:
    """Do units that have not ended and for which there is time left, in all and in the share of their section."""
    for unit in units:
        ended = book.folder.units()
        if any(row["unit"] == unit.name for row in ended):
            continue
        seconds = _expected(unit, ended)
        spent = sum(float(row["seconds"]) for row in ended if row["unit"] in {u.name for u in units if u.section == unit.section})
        if time.time() + seconds > book.until or (spent and spent + seconds > shares.get(unit.section, float("inf"))):
            continue  # a later one may be shorter
        print(f"begin {unit.name}", flush=True)
        begun = time.monotonic()
        try:
            outcome, note = DONE, unit.run()
        except Exception as error:  # after any error the rest continues
            outcome, note = FAILED, f"{type(error).__name__}: {error}"
        gc.collect()  # reference cycles hold compiled kernels and their weights
        book.folder.finish(unit.name, outcome, time.monotonic() - begun, note)
        print(f"{outcome} {unit.name}: {' '.join(note.split())[:200]}", flush=True)
        if outcome == FAILED and _broken(book.device):
            return 1
    return 0


def _expected(unit: Unit, ended: Sequence[Mapping[str, str]]) -> float:
    """Return the seconds that a unit may take: those of the longest of its kind, if enough of them are known."""
    known = [float(row["seconds"]) for row in ended if row["unit"].partition(":")[0] == unit.kind and row["outcome"] == DONE]
    return max(known) if len(known) >= KNOWN else unit.seconds


def _strategy(wanted: str) -> str:
    """Return a strategy of searches, or MetaSchedule's random one where xgboost, which its cost model needs, is not installed."""
    return wanted if importlib.util.find_spec("xgboost") else "replay"


def _broken(device: Device) -> bool:
    """Whether a device no longer answers, for instance after an access out of bounds: CUDA rejects
    all further work of the process.
    """
    try:
        device.synchronize()
    except RuntimeError:
        return True
    finally:
        if device.torch == "cuda":
            torch.cuda.empty_cache()
    return False


def _nvidia_smi() -> str:
    query = "name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "not there"
    return done.stdout.strip()
