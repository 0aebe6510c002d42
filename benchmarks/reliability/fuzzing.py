"""Fuzz the readers of what comes from elsewhere, each for so much CPU time, in slices whose results are kept."""

import re
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.reliability import rows

ROOT = Path(__file__).resolve().parent.parent.parent
SLICE = 120  # seconds on the clock; a slice that is killed is lost


def run(label: str, cpu_seconds: float, corpus: Path) -> bool:
    """Fuzz every reader until it has had its CPU seconds under this label, or has a finding; return whether none has."""
    from support.fuzz_targets import TARGETS

    while waiting := [name for name in TARGETS if spent(label, name) < cpu_seconds and not findings(label, name)]:
        name = min(waiting, key=lambda name: spent(label, name))  # so that each had some where the run is stopped
        row = fuzz(name, min(SLICE, max(10, round(cpu_seconds - spent(label, name)))), corpus)
        rows.write("fuzz", label, row)
        print(row, flush=True)
    return not any(findings(label, name) for name in TARGETS)


def spent(label: str, name: str) -> float:
    """Return the CPU seconds that a reader was fuzzed for."""
    return sum(float(row["cpu_seconds"]) for row in rows.read("fuzz", label) if row["reader"] == name)


def findings(label: str, name: str) -> list[str]:
    """Return what was found in a reader."""
    return [row["finding"] for row in rows.read("fuzz", label) if row["reader"] == name and row["finding"]]


def fuzz(name: str, seconds: int, corpus: Path) -> dict[str, object]:
    """Fuzz a reader for so long on the clock; the CPU time is without what importing takes."""
    corpus.mkdir(parents=True, exist_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "benchmarks.fuzz", name, "--seconds", str(seconds), "--corpus", str(corpus)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    after, said = resource.getrusage(resource.RUSAGE_CHILDREN), done.stdout + done.stderr
    (corpus / f"{name}.txt").write_text(said)
    starting = re.search(r"starting took ([\d.]+) s of the CPU", said)
    units, reached = re.search(r"number_of_executed_units: (\d+)", said), re.findall(r"cov: (\d+) ft: (\d+)", said)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime - (float(starting[1]) if starting else 0)
    finding = "" if done.returncode == 0 and units else (said.strip().splitlines() or ["it printed nothing"])[-1][:200]
    return {
        "reader": name,
        "cpu_seconds": round(used, 1),
        "inputs": int(units[1]) if units else 0,
        "reached": int(reached[-1][0]) if reached else 0,
        "finding": finding,
    }
