"""Time a cell: our kernel alternates with its baselines, on weights that no cache keeps. All are first checked in float64."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from tvm import tirx

from benchmarks.gpu.device import Device, Timer
from benchmarks.gpu.layer import LIMITS, Cell, Layer, check, limit_of, rotate
from benchmarks.gpu.rivals import BASELINES, UNCAPTURED, rivals_of
from tvm_balanced.runtime import environment
from tvm_balanced.schedules import KERNELS
from tvm_balanced.timing.paired import Implementation, Seconds, measure_paired

OURS, DEFAULT = "balanced", "default"
OWN_DENSE = ("cuda_dense_mma", "cuda_dense")  # those of these kernels that support a dtype
RIVALS_MAY = 5  # factor on the error allowed to us: cuBLAS adds partial sums in half precision
KEY = ("n", "k", "m", "pattern", "dtype", "kernel", "schedule")
COLUMNS = (
    *("date", "gpu", "versions", *KEY, "rival", "clock", "rounds", "us", "p20", "p50", "p80", "error"),
    *("weight_bytes", "gbytes", "of_bandwidth", "of_roofline", "note"),
)


@dataclass(frozen=True)
class Ceilings:
    """The measured rates of torch's own operations on a device.

    Parameters
    ----------
    gbytes : float
        The higher rate of reading and copying, 10^9 bytes a second.
    gflops : mapping of dtype to float
        Rate of a square matrix product, 10^9 operations a second; "tf32" besides the dtypes.
    """

    gbytes: float
    gflops: Mapping[str, float]

    def seconds(self, cell: Cell, nbytes: int) -> float:
        """Return the least time of a cell: of its bytes or of its arithmetic, whichever is longer.

        Arithmetic is the dense product on tensor cores with at least 8 rows of x, or that of the
        nonzeros alone on CUDA cores.
        """
        pattern = cell.parsed
        operations = 2 * cell.n * cell.k
        skipping = operations * cell.m * pattern.nnz / pattern.block / self.gflops["float32"]
        dense = operations * -(-cell.m // 8) * 8 / self.gflops[cell.dtype] if cell.dtype != "float32" else skipping
        return max(nbytes / self.gbytes, min(skipping, dense)) / 1e9


def measure_ceilings(device: Device, nbytes: int = 2 << 30, edge: int = 8192) -> dict[str, Any]:
    """Return the rates of a device by name: bytes copied (read and written) and read, and matrix products of `edge`."""
    a = torch.randn(nbytes // 4, device=device.torch)
    b = torch.empty_like(a)
    found: dict[str, Any] = {
        "copy_gbytes": 2 * nbytes / _seconds(device, lambda _: b.copy_(a)) / 1e9,
        "read_gbytes": nbytes / _seconds(device, lambda _: a.sum()) / 1e9,
        "gflops": {},
    }
    for name, dtype, precision in (
        *((dtype, dtype, "highest") for dtype in device.dtypes),
        ("tf32", "float32", "high"),
    ):
        torch.set_float32_matmul_precision(precision)
        square = torch.randn(edge, edge, device=device.torch).to(getattr(torch, dtype))
        found["gflops"][name] = 2 * edge**3 / _seconds(device, partial(_square, square)) / 1e9
    torch.set_float32_matmul_precision("highest")
    return found


def _square(matrix: torch.Tensor, _: int) -> torch.Tensor:
    return matrix @ matrix


def ceilings_of(found: Mapping[str, Any]) -> Ceilings:
    """Return the ceilings from the results of `measure_ceilings`."""
    return Ceilings(max(found["copy_gbytes"], found["read_gbytes"]), found["gflops"])


def vendor_ceilings(device: Device) -> Ceilings:
    """Return the vendor's figures, for ceilings that could not be measured."""
    machine = device.machine
    gflops = dict.fromkeys(("float16", "bfloat16"), 2 * (machine.tensor_gmacs or machine.gmacs))
    return Ceilings(machine.gbytes_all, gflops | {"float32": 2 * machine.gmacs})


def _seconds(device: Device, rival: Implementation) -> float:
    timer = device.timer(rival, 1)
    return float(np.median([timer.once() for _ in range(7)]))


@dataclass(frozen=True)
class Entrant:
    """A checked baseline: its timer, and the error of its result."""

    timer: Timer
    error: float


def own_dense(cell: Cell) -> list[Cell]:
    """Return the same cell for each of our dense kernels that computes its dtype."""
    return [replace(cell, kernel=name) for name in OWN_DENSE if cell.dtype in KERNELS[name].dtypes]


def measure(
    cell: Cell, device: Device, ceilings: Ceilings, seconds: float, scheduled: tirx.PrimFunc | None = None
) -> list[dict[str, object]]:
    """Time a cell and return its rows, ours first.

    Parameters
    ----------
    cell : Cell
    device : Device
    ceilings : Ceilings
    seconds : float
        Time for measuring; there are at least five rounds.
    scheduled : PrimFunc, optional
        The kernel with a tuned schedule; its default is then a baseline.

    Raises
    ------
    RuntimeError
        If our kernel is wrong. A baseline that is wrong or unavailable gets a row with a note.
    """
    layer = Layer(cell, device)
    racing = {OURS: kernel_entrant(OURS, layer, layer.default() if scheduled is None else scheduled)}
    notes = {}
    own = [dense.kernel for dense in own_dense(cell)]
    for name in (*((DEFAULT,) if scheduled is not None else ()), *rivals_of(cell.dtype, cell.pattern, cell.m), *own):
        try:
            racing[name] = rival_entrant(name, layer)
        except Exception as error:  # libraries raise many kinds; the row records what is unavailable
            notes[name] = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    device.synchronize()
    timing = measure_paired({name: reported(entrant.timer) for name, entrant in racing.items()}, device.rounds, seconds, warm=0)
    rows = []
    for name in (*racing, *notes):
        row: dict[str, object] = stamp(device) | cell.row() | {"rival": name, "note": notes.get(name, "")}
        if name in racing:
            times, ratio, entrant = timing.times[name], timing.speedup(OURS, name), racing[name]
            row |= {"clock": entrant.timer.clock, "rounds": len(times), "us": f"{timing.microseconds(name):.2f}"}
            row |= {p: f"{getattr(ratio, p):.3f}" for p in ("p20", "p50", "p80")} | {"error": f"{entrant.error:.1e}"}
        if name == OURS:
            row |= _shares(layer, ceilings, timing.microseconds(OURS) / 1e6)
        rows.append(row)
    return rows


def kernel_entrant(name: str, layer: Layer, scheduled: tirx.PrimFunc) -> Entrant:
    """Return one of our kernels on a layer, checked."""
    run = layer.ours(scheduled)
    error = check(name, run(0), layer.x, layer.dense, limit_of(layer.cell.kernel, layer.cell.dtype))
    return Entrant(layer.device.timer(run, _calls(layer)), error)


def rival_entrant(name: str, layer: Layer) -> Entrant:
    """Return a baseline on a layer: one of BASELINES, one of our dense kernels, or the default schedule."""
    if name == DEFAULT:
        return kernel_entrant(name, layer, layer.default())
    if name in OWN_DENSE:
        dense = Layer(replace(layer.cell, kernel=name), layer.device)
        return kernel_entrant(name, dense, dense.default())
    made = BASELINES[name](layer.dense, layer.x, lambda nbytes: rotate(nbytes, layer.device))
    error = check(name, made.run(0), layer.x, made.weight, max(RIVALS_MAY * LIMITS[layer.cell.dtype], made.rounding))
    return Entrant(layer.device.timer(made.run, _calls(layer), name not in UNCAPTURED), error)


def _calls(layer: Layer) -> int:
    """Return the number of consecutive calls of a baseline, so that each copy of its weight is used."""
    return rotate(layer.packed_bytes, layer.device)


def reported(timer: Timer) -> Callable[[int], Seconds]:
    """Return an implementation for `measure_paired` that reports the time of its calls itself."""
    return lambda _: Seconds(timer.once())


def _shares(layer: Layer, ceilings: Ceilings, seconds: float) -> dict[str, object]:
    cell, nbytes = layer.cell, layer.bytes_moved()
    gbytes = nbytes / seconds / 1e9
    return {
        "weight_bytes": f"{layer.packed_bytes / (cell.n * cell.k):.4f}",
        "gbytes": f"{gbytes:.1f}",
        "of_bandwidth": f"{gbytes / ceilings.gbytes:.3f}",
        "of_roofline": f"{ceilings.seconds(cell, nbytes) / seconds:.3f}",
    }


def stamp(device: Device) -> dict[str, object]:
    """Return the first columns of every row: date, GPU and versions."""
    return {"date": datetime.now(UTC).date().isoformat(), "gpu": device.name, "versions": _versions()}


@cache
def _versions() -> str:
    installed = environment.versions()
    cuda = f", CUDA {torch.version.cuda}" if torch.version.cuda else ""
    return ", ".join(f"{name} {installed.get(name, 'unknown')}" for name in ("apache-tvm", "torch")) + cuda
