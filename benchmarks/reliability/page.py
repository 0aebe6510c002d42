"""docs/reliability.md, from the rows of the runs."""

import platform
from collections import defaultdict
from pathlib import Path

import tvm_balanced as tb
from benchmarks.reliability import rows, soak
from tvm_balanced.core.text_table import table

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reliability.md"
INTRODUCTION = """# Reliability

What is done to artifacts, readers, kernels and processes, and what came of it. `python -m benchmarks.reliability` does each
part, which its help lists, and writes this page from the rows in `benchmarks/data/reliability_*.csv`: those of {label}, of
version {version}, on Linux {machine}.
"""
ARTIFACTS = """
## Hostile and damaged artifacts

`attacks`: each hostile artifact of `tests/support/attacks.py`, and each file of an artifact damaged at 64 places. Damage to
what is stored for the self-test changes no answer of the model, so it is loaded; `tvm-balanced self-test` finds it. The tests
do the same to the loader for C++.
"""
FUZZ = """
## Readers

`fuzz`: fuzzing guided by coverage (atheris) of the readers of what comes from elsewhere. "reached" counts branches. What
reached new code is kept in `tests/data/fuzz`, and `make test` runs it and mutations of it.
"""
INPUTS = """
## Random inputs

`inputs`: random layers, each built and called with 500 random x. Every result is compared with float64, and its bound is
derived from the arithmetic of its kernel, as `benchmarks/reliability/random_inputs.py` says. The largest share is near 1
where y is in half precision, whose last bit is the bound.
"""
SOAK = """
## Soak

`soak`: processes of three threads each load artifacts (layers, any number of rows on two threads, variants), call, clone,
save, self-test and load what they saved, and compare all bits. They sleep in between. First and last are of the minutes
behind the first ten; memory is what is anonymous, and "KB/h" the slope of a straight line through it, "at last" through the
last third.
"""
SHARED = """
## Shared weights

`shared`: two processes load one model, whose weights are mapped from its files ("shared") or a copy for each in huge pages
("copied"). PSS is the proportional set size of `/proc/PID/smaps_rollup`, in which pages that both have count once, and
includes what the runtime itself takes. A call is of one row, on one thread. MB are 10^6 bytes.
"""


def fenced(header: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    """Return a table in a block of code."""
    return f"\n```\n{table(header, lines)}\n```\n"


def artifacts(label: str) -> str:
    """Return what came of hostile and damaged artifacts."""
    lines = [(row["kind"], row["outcome"], row["count"]) for row in rows.read("artifacts", label)]
    return ARTIFACTS + fenced(("artifacts", "what came of them", "how many"), lines)


def fuzz(label: str) -> str:
    """Return what fuzzing found."""
    readers: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows.read("fuzz", label):
        readers[row["reader"]].append(row)
    lines = [
        (
            name,
            f"{sum(float(row['cpu_seconds']) for row in each):.0f}",
            f"{sum(int(row['inputs']) for row in each):,}",
            str(max(int(row["reached"]) for row in each)),
            "; ".join(row["finding"] for row in each if row["finding"]) or "none",
        )
        for name, each in readers.items()
    ]
    return FUZZ + fenced(("reader", "CPU seconds", "inputs", "reached", "findings"), lines)


def inputs(label: str) -> str:
    """Return what came of random inputs."""
    found = rows.read("inputs", label)
    sums = [f"{sum(int(row[name]) for row in found):,}" for name in ("builds", "inputs", "results", "outside")]
    largest = max((float(row["largest_share"]) for row in found), default=0)
    header = ("builds", "inputs", "results", "outside of their bound", "largest share of a bound")
    return INPUTS + fenced(header, [(*sums, f"{largest:.3f}")])


def soaked(label: str) -> str:
    """Return what came of the soak."""
    header = ("process", "minutes", "loads", "calls", "saves", "wrong", "errors", "MB first", "last", "KB/h", "at last")
    header += ("mappings", "files")
    lines = [
        (
            f"{one['run']}.{one['process']}",
            *(f"{one[name]:,}" for name in ("minutes", "loads", "calls", "saves", "wrong", "errors")),
            *(f"{one[f'anonymous_kb_{when}'] / 1024:.1f}" for when in ("first", "last")),
            *(f"{one[name]:z,.0f}" for name in ("kb_per_hour", "kb_per_hour_at_last")),
            *(f"{one[f'{name}_first']} to {one[f'{name}_last']}" for name in ("mappings", "files")),
        )
        for one in soak.slopes(label)
    ]
    return SOAK + fenced(header, lines)


def shared(label: str) -> str:
    """Return what two processes have in memory."""
    lines = [
        (
            row["weights"],
            f"{int(row['bytes']) / 1e6:,.0f}",
            *(f"{int(row[name]):,}" for name in ("pss_mb_of_both", "rss_mb_of_both", "huge_pages_mb_of_both")),
            row["load_s"],
            row["call_ms"],
        )
        for row in rows.read("shared", label)
    ]
    header = ("weights=", "MB of weights", "PSS of both", "RSS of both", "huge pages of both", "load, s", "call, ms")
    return SHARED + fenced(header, lines)


def write(label: str) -> None:
    """Write the page and print it."""
    text = INTRODUCTION.format(label=label, version=tb.__version__, machine=platform.machine())
    text += "".join(part(label) for part in (artifacts, fuzz, inputs, soaked, shared))
    PAGE.write_text(text)
    print(text)
