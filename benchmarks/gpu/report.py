"""The report of a folder: what ran where, what is wrong, and how far each cell is from the limit of its bytes."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.gpu.folder import DONE, Folder

Row = Mapping[str, str]
# Wanted speed-ups over cuBLAS in the same dtype, on layers of at least 400 MB dense, by (dtype, M)
# and pattern
WANTED = {
    ("float32", "1"): {"4:16": 2.8, "2:16": 5.5, "1:16": 8.0},
    ("float16", "1"): {"8:16": 1.5, "4:16": 2.6, "2:16": 4.8},
    ("float16", "2"): {"8:16": 1.5, "4:16": 2.6, "2:16": 4.8},
    ("float16", "4"): {"8:16": 1.5, "4:16": 2.6, "2:16": 4.8},
    ("float16", "16"): {"8:16": 1.3, "4:16": 2.2, "2:16": 3.3},
    ("float16", "64"): {"8:16": 1.2, "4:16": 1.6, "2:16": 1.7},
}
LARGE = 400e6  # bytes
CELL = ("n", "k", "m", "pattern", "dtype", "kernel", "schedule")
CLOCKS = (
    "A rival's clock is named where it is not a CUDA graph: `queue` is of calls that were all launched before the first one ran,",
    "`events` of calls as they are launched, so that a short one seems slower than it is.",
)
BASELINES = ("cublas", "cublas_tf32", "csr", "cusparselt_2:4", "triton_bitmask", "cuda_dense_mma", "cuda_dense", "default")


def write_report(folder: Folder) -> Path:
    """Write report.md and return its path."""
    facts = folder.facts()
    lines = [f"# The GPU run-book on {facts.get('gpu', 'no device')}", ""]
    if "stand-in" in facts.get("gpu", ""):
        lines += ["**A rehearsal: nothing here was measured on a GPU, and the times mean nothing.**", ""]
    lines += _what_was_run(folder, facts.get("units", 0))
    if "ceilings" in facts:
        lines += ["", "## Ceilings, measured", "", *_ceilings(facts["ceilings"])]
    else:
        lines += ["", "The ceilings were not measured: shares are of what the maker of the GPU says."]
    lines += ["", "## Correctness", "", *_correctness(folder.read("correctness.csv"))]
    lines += ["", "## Cells", "", *_cells(folder.read("gpu.csv"))]
    lines += ["", "## Whole models", "", *_models(folder.read("gpu_models.csv"))]
    lines += ["", "## Counters of Nsight Compute", "", *_counters(facts.get("counters", {}))]
    lines += ["", "## Tuning", "", *_tuning(folder)]
    path = folder.path / "report.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return a Markdown table, or a sentence if it would be empty."""
    if not rows:
        return ["Nothing yet."]
    return [f"| {' | '.join(map(str, row))} |" for row in (header, ["---"] * len(header), *rows)]


def _what_was_run(folder: Folder, planned: int) -> list[str]:
    outcomes = folder.outcomes()
    counts = ", ".join(f"{count} {outcome}" for outcome, count in Counter(outcomes.values()).items())
    lines = [f"{planned} units planned: {counts or 'none ended'}, {max(0, planned - len(outcomes))} left.", ""]
    failed = [(row["unit"], row["outcome"], row["note"]) for row in folder.units() if row["outcome"] != DONE]
    return lines + (table(("what did not work", "outcome", "why"), failed) if failed else ["All that ended did work."])


def _ceilings(found: Mapping[str, object]) -> list[str]:
    rates: Mapping[str, float] = found["gflops"]  # type: ignore[assignment]
    rows = [("memory, copied", f"{found['copy_gbytes']:.0f} GB/s"), ("memory, read", f"{found['read_gbytes']:.0f} GB/s")]
    return table(
        ("what", "rate"), [*rows, *((f"matrix product, {name}", f"{rate / 1e3:.1f} TFLOP/s") for name, rate in rates.items())]
    )


def _correctness(rows: Sequence[Row]) -> list[str]:
    by_kind: dict[tuple[str, str], list[Row]] = defaultdict(list)
    results = ("gpu", "error", "limit")
    last = {
        tuple(text for name, text in row.items() if name not in results): row for row in rows
    }  # the last row of repeated cases
    for row in last.values():
        by_kind[row["kernel"], row["dtype"]].append(row)
    return table(
        ("kernel", "dtype", "cases", "largest error", "limit", "wrong"),
        [
            (*kind, len(cases), max((c["error"] for c in cases), key=float), cases[0]["limit"],
             sum(not float(c["error"]) <= float(c["limit"]) for c in cases))
            for kind, cases in by_kind.items()
        ],
    )  # fmt: skip


def _cells(rows: Sequence[Row]) -> list[str]:
    by_cell: dict[tuple[str, ...], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        by_cell[tuple(row[name] for name in CELL)][row["rival"]] = row
    header = ("N x K", "M", "pattern", "dtype", "kernel", "schedule", "us", "B/weight", "GB/s", "of bandwidth", "of roofline")
    shown = []
    for cell, rivals in by_cell.items():
        ours = rivals.get("balanced")
        if ours is None:
            continue
        speedups = [speedup(rivals.get(name)) for name in BASELINES]
        shares = [ours[name] for name in ("us", "weight_bytes", "gbytes", "of_bandwidth", "of_roofline")]
        shown.append((f"{cell[0]}x{cell[1]}", *cell[2:], *shares, *speedups, wanted(cell) or ""))
    return [
        "How many times faster than each rival: median of paired ratios (20th to 80th percentile). Weights rotate over four",
        "times the last cache. `default` is our kernel before tuning; `cuda_dense_mma` is our dense kernel and",
        "`cuda_dense` TVM's.",
        *CLOCKS,
        "",
        *table((*header, *(f"over {name}" for name in BASELINES), "wanted over cublas"), shown),
    ]


def speedup(row: Row | None, digits: int = 3) -> str:
    """Return our speed-up over the baseline of a row, with its clock if that is one of CLOCKS, and its note."""
    if row is None:
        return ""
    if not row["p50"]:
        return f"- {row['note']}".strip()
    p50, p20, p80 = (f"{float(row[p]):.{digits}f}" for p in ("p50", "p20", "p80"))
    clock = f", {row['clock']}" if row["clock"] in ("queue", "events") else ""
    return f"{p50} ({p20} to {p80}{clock}) {row.get('note', '')}".strip()


def wanted(cell: Sequence[str]) -> float | None:
    """Return the speed-up over cuBLAS that is wanted of a cell, by its columns CELL; None if nothing is."""
    n, k, m, pattern, dtype, *_ = cell
    large = int(n) * int(k) * (4 if dtype == "float32" else 2) >= LARGE
    return WANTED.get((dtype, m), {}).get(pattern) if large else None


def _models(rows: Sequence[Row]) -> list[str]:
    header = ("model", "M", "pattern", "dtype", "kernels", "clock", "us", "over eager", "over torch.compile")
    by_form: dict[tuple[str, ...], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        by_form[tuple(row[name] for name in ("model", "m", "pattern", "dtype", "kernels", "clock"))][row["rival"]] = row
    shown = [
        (*form, rivals["balanced"]["us"], speedup(rivals.get("eager"), 2), speedup(rivals.get("torch.compile"), 2))
        for form, rivals in by_form.items()
        if "balanced" in rivals
    ]
    return table(header, shown)


def _counters(found: Mapping[str, Mapping[str, str]]) -> list[str]:
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    return table(("cell", *names), [(cell, *(values.get(name, "") for name in names)) for cell, values in found.items()])


def _tuning(folder: Folder) -> list[str]:
    """Return a summary of tuning logs, read as plain JSON: the package's own reader imports TVM,
    which may be what does not work.
    """
    rows = []
    for path in sorted(folder.logs.glob("*/log.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        trials = Counter((line["run"], line["seconds"] is not None) for line in lines if line.get("kind") == "trial")
        for line in lines:
            if line.get("kind") == "winner":
                w, gain, run = line["workload"], line["gain"], line["run"]
                ratio = f"{gain['p50']:.2f} ({gain['p20']:.2f} to {gain['p80']:.2f})"
                cell = (f"{w['n']}x{w['k']}", w["m"], f"{w['nnz']}:{w['block']}", w["dtype"], w["kernel"])
                rows.append((*cell, trials[run, True], trials[run, False], ratio, line["won"], line["decisions"]))
    header = ("N x K", "M", "pattern", "dtype", "kernel", "measured", "failed", "over its default", "used", "decisions")
    return table(header, rows)
