"""Profile the GPU kernels with Nsight Compute's counters: `python -m benchmarks.gpu.profile --out DIR`.

Needs what the run-book needs, and `ncu`; some machines do not allow users to read its counters.
Each cell's kernel runs once under the profiler, with cold caches and an unlocked clock.
DIR/profile.csv gets all counters, DIR/profile.md the shares that show what a kernel waits for.
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.gpu.report import table
from tvm_balanced.errors import EnvironmentFaultError

KERNEL = "main_kernel"  # TVM's name of the kernel of a function "main"
SECTIONS = (
    *("SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis", "SchedulerStats", "WarpStateStats"),
    *("LaunchStats", "Occupancy", "InstructionStats"),
)
SHARES = {  # columns of the table: a title and the beginning of the counter's name
    "ns": "gpu__time_duration.sum",
    "DRAM %": "gpu__dram_throughput.avg.pct",
    "issue/cycle": "smsp__issue_active.avg.per_cycle_active",
    "ALU %": "sm__inst_executed_pipe_alu.avg.pct",
    "FMA %": "sm__inst_executed_pipe_fma.avg.pct",
    "LSU %": "sm__inst_executed_pipe_lsu.avg.pct",
    "XU %": "sm__inst_executed_pipe_xu.avg.pct",
    "tensor %": "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
    "shared %": "l1tex__data_pipe_lsu_wavefronts.avg.pct",
    "warps %": "sm__warps_active.avg.pct",
    "registers": "launch__registers_per_thread",
    "instructions": "smsp__inst_executed.sum",
}
WAITS = "stalls, cycles an instruction"
STALLS = "smsp__average_warps_issue_stalled_"


def main() -> int:
    """Profile the cells that fall short, or those that match patterns."""
    options = _parse()
    if options.worker:
        _run(options.cells)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        cells, rows = _profiled(options.cells)
    except EnvironmentFaultError as error:
        print(error, file=sys.stderr)
        return 1
    _write(options.out / "profile.csv", cells, rows)
    (options.out / "profile.md").write_text("\n".join(["# What the kernels wait for", "", *_shares(cells, rows)]) + "\n")
    print("\n".join(_shares(cells, rows)))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu.profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cells", nargs="*", default=["*"], help='such as "28672x8192 m16 *"; those that fall short by default')
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="folder of the results; %(default)s by default")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def counters(patterns: Sequence[str], seconds: float | None = None) -> dict[str, dict[str, str]]:
    """Return the shares and the longest waits of each cell that matches one of `patterns`.

    Raises
    ------
    EnvironmentFaultError
        If ncu is not installed, or is not allowed to read the counters.
    subprocess.TimeoutExpired
        If it takes longer than `seconds`.
    """
    cells, rows = _profiled(patterns, seconds)
    return {cell: _of_cell(row) for cell, row in zip(cells, rows, strict=True)}


def _profiled(patterns: Sequence[str], seconds: float | None = None) -> tuple[list[str], list[dict[str, str]]]:
    """Return the cells, and ncu's counters of each by name; raises as `counters`."""
    sections = [argument for section in SECTIONS for argument in ("--section", section)]
    ncu = ["ncu", "--clock-control", "none", "--csv", "--page", "raw", "--print-units", "base"]
    ncu += ["--kernel-name", KERNEL, *sections]
    worker = [sys.executable, "-m", "benchmarks.gpu.profile", "--worker", *patterns]
    try:
        done = subprocess.run([*ncu, *worker], capture_output=True, text=True, check=False, timeout=seconds)
    except FileNotFoundError:
        raise EnvironmentFaultError("ncu was not found; install Nsight Compute and put it on the PATH") from None
    lines = done.stdout.splitlines()
    cells = [line.removeprefix("cell ") for line in lines if line.startswith("cell ")]
    rows = list(csv.DictReader(line for line in lines if line.startswith('"')))[1:]  # the first row holds units
    if done.returncode or not rows or len(rows) != len(cells):
        raise EnvironmentFaultError(f"ncu counted nothing: {done.stdout[-1000:]} {done.stderr[-1000:]}")
    return cells, rows


def _run(patterns: Sequence[str]) -> None:
    """Run each cell's kernel once, and print which one first."""
    # heavy imports: the process that calls ncu needs neither torch nor TVM
    from benchmarks.gpu.cells import GPU_SHAPES, by_section
    from benchmarks.gpu.devices import open_device
    from benchmarks.gpu.layer import Layer

    device = open_device("cuda")
    sections = by_section(device, GPU_SHAPES)
    chosen = sections["short"] if list(patterns) == ["*"] else [cell for cells in sections.values() for cell in cells]
    for cell in chosen:
        if any(fnmatch(str(cell), pattern) for pattern in patterns):
            layer = Layer(cell, device)
            run = layer.ours(layer.default())
            print(f"cell {cell}", flush=True)
            run(0)
            device.synchronize()


def _write(path: Path, cells: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["cell", *rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"cell": cell, **row} for cell, row in zip(cells, rows, strict=False))


def _shares(cells: Sequence[str], rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a table of what the cells wait for."""
    found = [(cell, *_of_cell(row).values()) for cell, row in zip(cells, rows, strict=True)]
    return table(("cell", *SHARES, WAITS), found)


def _of_cell(row: Mapping[str, str]) -> dict[str, str]:
    """Return SHARES of one cell, and the longest waits of warps in cycles per issued instruction."""
    shares = {title: next((text for name, text in row.items() if name.startswith(start)), "") for title, start in SHARES.items()}
    stalls = {
        name.removeprefix(STALLS).removesuffix("_per_issue_active.ratio"): float(text.replace(",", ""))
        for name, text in row.items()
        if name.startswith(STALLS) and name.endswith("_per_issue_active.ratio") and text
    }
    longest = sorted(stalls, key=lambda name: -stalls[name])[:4]
    return shares | {WAITS: ", ".join(f"{name} {stalls[name]:.1f}" for name in longest)}


if __name__ == "__main__":
    sys.exit(main())
