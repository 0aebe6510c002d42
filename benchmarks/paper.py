"""The paper's tables, measured: `python -m benchmarks.paper [--target cuda|cpu] [--out DIR] [--minutes 30]`.

The micro-benchmark at batch 1 and 8, one step of the LSTMs and the dense layers of VGG-16, float32: our kernels compared with
dense, CSR and block sparsity and with the paper's own times, at the kernel's sparsity nearest to the paper's. A model is its
dense layers one after another, without the operators between them. Rows go to DIR/paper.csv as they are measured and tables to
DIR/paper.md; the same command continues where it was stopped. --stand-in rehearses it on small layers through PoCL.
"""

import argparse
import gc
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.cells import kernels_for
from benchmarks.gpu.device import Device
from benchmarks.gpu.devices import open_device
from benchmarks.gpu.folder import Folder
from benchmarks.gpu.layer import LIMITS, Cell, Layer, check, rotate
from benchmarks.gpu.measuring import OURS, RIVALS_MAY, reported, stamp
from benchmarks.gpu.report import CLOCKS, speedup, table
from benchmarks.gpu.rivals import BASELINES, UNCAPTURED, Maker, block_sparse
from benchmarks.interference import other_load
from benchmarks.paper_cases import CASES, Case
from tvm_balanced.errors import TvmBalancedError
from tvm_balanced.timing.paired import Implementation, measure_paired

DTYPE = "float32"
COLUMNS = (
    *("date", "gpu", "versions", "case", "batch", "asked", "pattern", "sparsity", "kernel"),
    *("rival", "clock", "rounds", "us", "p20", "p50", "p80", "paper_us", "others", "note"),
)
RIVALS_OF: Mapping[str, tuple[str, ...]] = {
    "cuda": ("cublas", "cublas_tf32", "csr", "block"),
    "cpu": ("onednn", "eager", "csr", "block"),
    "stand-in": ("eager", "csr", "block"),
}
IN_PAPER = {"cublas": "dense", "onednn": "dense", "csr": "random", "block": "block", OURS: "balanced"}
SECONDS = 8.0  # timing of a case
SHRINK = 128  # factor by which the stand-in's layers are smaller


def nearest(device: Device, size: tuple[int, int], batch: int, sparsity: float) -> Cell:
    """Return the cell whose pattern, in blocks of 16, is nearest to a sparsity, among those that
    the fastest kernel supports.
    """
    offers = {nnz: kernels_for(device, *size, batch, f"{nnz}:16", DTYPE) for nnz in range(1, 16)}
    kernel = offers[2][0]  # every kernel supports 2:16; one that supports every pattern may be several times slower
    nnz = min((n for n, names in offers.items() if kernel in names), key=lambda n: abs(1 - n / 16 - sparsity))
    return Cell(*size, batch, f"{nnz}:16", DTYPE, kernel)


def measure(case: Case, device: Device, rivals: Sequence[str]) -> list[dict[str, object]]:
    """Time a case and return its rows, ours first; a baseline that is unavailable gets a note.

    Raises
    ------
    RuntimeError
        If one of our kernels is wrong.
    """
    layers = [Layer(nearest(device, size, case.batch, case.sparsity), device) for size in case.layers]
    racing, notes = {OURS: _in_turn([_ours(layer) for layer in layers])}, {}
    for name in rivals:
        maker = partial(block_sparse, sparsity=case.block_sparsity) if name == "block" else BASELINES[name]
        try:
            racing[name] = _in_turn([_checked(name, maker, layer) for layer in layers])
        except Exception as error:  # libraries raise many kinds; the row records what is unavailable
            notes[name] = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    calls = max(rotate(layer.packed_bytes, device) for layer in layers)
    timers = {name: device.timer(rival, calls, name not in UNCAPTURED) for name, rival in racing.items()}
    timing = measure_paired({name: reported(timer) for name, timer in timers.items()}, device.rounds, SECONDS, warm=0)
    cell, rows = layers[0].cell, []
    common = {"case": case.name, "batch": case.batch, "asked": case.sparsity, "pattern": cell.pattern, "kernel": cell.kernel}
    for name in (*racing, *notes):
        row = stamp(device) | common | {"sparsity": cell.parsed.sparsity, "rival": name, "note": notes.get(name, "")}
        row["paper_us"] = case.published.get(IN_PAPER.get(name, ""), "")
        if name in racing:
            ratio = timing.speedup(OURS, name)
            row |= {"clock": timers[name].clock, "rounds": len(timing.times[name]), "us": f"{timing.microseconds(name):.2f}"}
            row |= {p: f"{getattr(ratio, p):.3f}" for p in ("p20", "p50", "p80")}
        if name == "block" and case.block_sparsity is not None:
            row["note"] = f"{row['note']} at {case.block_sparsity:.0%}".strip()
        rows.append(row)
    return rows


def _ours(layer: Layer) -> Implementation:
    run = layer.ours(layer.default())
    check(layer.cell.kernel, run(0), layer.x, layer.dense, LIMITS[DTYPE])
    return run


def _checked(name: str, maker: Maker, layer: Layer) -> Implementation:
    made = maker(layer.dense, layer.x, lambda nbytes: rotate(nbytes, layer.device))
    check(name, made.run(0), layer.x, made.weight, max(RIVALS_MAY * LIMITS[DTYPE], made.rounding))
    return made.run


def _in_turn(rivals: Sequence[Implementation]) -> Implementation:
    """Return a baseline that runs all layers of a model one after another."""

    def run(call: int) -> torch.Tensor:
        for rival in rivals:
            y = rival(call)
        return y  # type: ignore[return-value]

    return run


def shrunk(case: Case) -> Case:
    """Return a case with smaller layers and without the paper's times."""
    return replace(case, layers=tuple((n // SHRINK + 1, k // SHRINK + 4) for n, k in case.layers), published={})


def run(device: Device, folder: Folder, cases: Sequence[Case], rivals: Sequence[str], until: float) -> list[str]:
    """Time the cases without rows, until the clock of time.time says `until`; return what failed."""
    there, failed = {(row["case"], row["batch"], row["asked"]) for row in folder.read("paper.csv")}, []
    for case in cases:
        if (case.name, str(case.batch), str(case.sparsity)) in there:
            continue
        if time.time() >= until:
            print("out of time; the same command goes on from here")
            break
        gc.collect()  # reference cycles hold compiled kernels, and so gigabytes of weights
        try:
            with other_load() as neighbours:
                rows = measure(case, device, rivals)
        except Exception as error:  # the other cases continue
            failed.append(f"{case}: {type(error).__name__}: {error}")
            print(failed[-1], file=sys.stderr, flush=True)
            continue
        folder.append("paper.csv", COLUMNS, [row | {"others": f"{neighbours.share:.2f}"} for row in rows])
        shown = ", ".join(f"{row['rival']} {row['p50']}" for row in rows[1:] if "p50" in row)
        print(f"{case}: {rows[0]['pattern']}, {rows[0]['us']} us; {shown}", flush=True)
    return failed


def write_tables(folder: Folder) -> Path:
    """Write paper.md from paper.csv and return its path."""
    rows = folder.read("paper.csv")
    cases: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for row in rows:
        cases.setdefault((row["case"], row["batch"], row["asked"]), {})[row["rival"]] = row
    names = list(dict.fromkeys(row["rival"] for row in rows if row["rival"] != OURS))
    header = ["layers", "batch", "asked", "stored", "kernel", "us", *(f"over {name}" for name in names)]
    header += ["paper: us", "paper: over dense", "paper: over random", "paper: over block"]
    shown = []
    for (name, batch, asked), by_rival in cases.items():
        ours = by_rival[OURS]
        stored = f"{ours['pattern']} = {float(ours['sparsity']):.2%}"
        cells = [name, batch, f"{float(asked):.2%}", stored, ours["kernel"], ours["us"]]
        shown.append([*cells, *(speedup(by_rival.get(rival), digits=2) for rival in names), *_of_paper(by_rival)])
    devices = ", ".join(dict.fromkeys(row["gpu"] for row in rows)) or "nothing yet"
    lines = [
        f"# The paper's tables on {devices}",
        "",
        "How many times faster we are: median of paired ratios (20th to 80th percentile).",
        *(CLOCKS if any(row["clock"] in ("graph", "queue", "events") for row in rows) else ()),
    ]
    lines += [
        "Weights rotate over four times the last cache. The paper's GPU is another and has no name: compare its ratios.",
        "",
    ]
    path = folder.path / "paper.md"
    path.write_text("\n".join([*lines, *table(header, shown)]) + "\n")
    return path


def _of_paper(by_rival: dict[str, dict[str, str]]) -> list[str]:
    """Return the paper's own time and its ratios."""
    times = {IN_PAPER[name]: float(row["paper_us"]) for name, row in by_rival.items() if name in IN_PAPER and row["paper_us"]}
    if "balanced" not in times:
        return [""] * 4
    ratios = [f"{times[kind] / times['balanced']:.2f}" if kind in times else "" for kind in ("dense", "random", "block")]
    return [f"{times['balanced']:g}", *ratios]


def main() -> int:
    """Measure the cases and write the tables; return 1 if one failed."""
    parser = argparse.ArgumentParser("python -m benchmarks.paper", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--target", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=Path("build/paper"), help="folder of the results; %(default)s by default")
    parser.add_argument("--minutes", type=float, default=30, help="begin no case after this long; %(default)s by default")
    parser.add_argument("--cases", nargs="+", default=[""], metavar="WORD", help="only cases whose name has one of these words")
    parser.add_argument("--stand-in", action="store_true", help="rehearse on small layers through PoCL; times mean nothing")
    options = parser.parse_args()
    name = "stand-in" if options.stand_in else options.target
    try:
        device = open_device(name)
    except TvmBalancedError as error:
        print(error, file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    folder = Folder(options.out)
    cases = [case for case in CASES if any(word in str(case) for word in options.cases)]
    cases = [shrunk(case) for case in cases] if options.stand_in else cases
    failed = run(device, folder, cases, RIVALS_OF[name], time.time() + 60 * options.minutes)
    print(write_tables(folder))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
