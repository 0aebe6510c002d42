"""The soak: processes with several threads each load, call, save and reload for an hour; their memory is to stay flat."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import numpy as np
import torch
from torch import nn

import tvm_balanced as tb
from benchmarks.reliability import rows

PROCESSES, THREADS, SHARE = 2, 3, 0.15  # SHARE of a core for each process
WARM = 10  # minutes, which no slope counts


def artifacts(folder: Path) -> None:
    """Write three artifacts: of some layers, of any number of rows on two threads, and of variants."""
    torch.manual_seed(0)
    small = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 40)).eval()
    wide = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512)).eval()
    for model, pattern in ((small, "2:16"), (wide, "4:16")):
        tb.prune(model, pattern)
    x, many = torch.randn(5, 64), torch.randn(9, 512)
    saved = {
        "small": (tb.compile(small, (x,), threads=1), x),
        "wide": (tb.compile(wide, (many,), threads=2, dynamic_shapes=({0: torch.export.Dim("rows", max=32)},)), many),
    }
    for name, (module, given) in saved.items():
        module.save(folder / f"{name}.tb")
        np.savez(folder / f"{name}.npz", x=given.numpy(), y=module["main"].flat(given.numpy())[0])
    tb.save([tb.compile(small, (x,), target=cpu, threads=1) for cpu in _cpus()], folder / "variants.tb")
    loaded = tb.load(folder / "variants.tb")
    np.savez(folder / "variants.npz", x=x.numpy(), y=loaded["main"].flat(x.numpy())[0])


def _cpus() -> list[dict[str, object]]:
    return [{"kind": "llvm", "mcpu": cpu, "num-cores": 1} for cpu in ("x86-64-v4", "x86-64-v3")]


def run(label: str, minutes: float) -> bool:
    """Go on until each process has so many minutes in the rows of this label, a row a process and minute; return whether all was
    right. Prints the slope of each process's memory.
    """
    left, number = _left(label, minutes)
    if left > 0:
        with tempfile.TemporaryDirectory() as temporary:
            artifacts(Path(temporary))
            _soak(label, number, Path(temporary), left)
    found = slopes(label)
    for one in found:
        print(one)
    return not any(one["wrong"] or one["errors"] for one in found)


def _left(label: str, minutes: float) -> tuple[float, int]:
    """Return the minutes that are missing, and the number of runs so far."""
    done: dict[str, int] = {}
    for row in rows.read("soak", label):
        done[row["run"]] = max(done.get(row["run"], 0), int(row["minute"]))
    return minutes - sum(done.values()), len(done)


def _soak(label: str, run: int, folder: Path, minutes: float) -> None:
    command = [sys.executable, "-m", "benchmarks.reliability.soak_process", str(folder), str(THREADS), str(SHARE), "60"]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    try:
        _record(label, run, started, minutes)
    finally:
        for process in started:
            process.stdin.close()  # type: ignore[union-attr]
        for process in started:
            process.wait(300)


def _record(label: str, run: int, started: "list[subprocess.Popen[str]]", minutes: float) -> None:
    said: Queue[tuple[int, str]] = Queue()
    for number, process in enumerate(started):
        Thread(target=lambda n=number, p=process: [said.put((n, line)) for line in p.stdout], daemon=True).start()
    began, seen = time.monotonic(), [0] * len(started)
    while min(seen) < minutes:
        try:
            number, line = said.get(timeout=5)
        except Empty:
            if all(process.poll() is None for process in started):
                continue
            raise SystemExit("a process of the soak has ended; see what it said above") from None
        seen[number] = round((time.monotonic() - began) / 60)
        row = {"run": run, "process": number, "minute": seen[number]} | json.loads(line)
        rows.write("soak", label, row)
        print(row, flush=True)


def slopes(label: str) -> list[dict[str, object]]:
    """Return of each process what it has done, and how its memory grew behind the first minutes, and in the last third of
    them: slopes of straight lines.
    """
    processes: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows.read("soak", label):
        processes.setdefault((row["run"], row["process"]), []).append(row)
    found = []
    for (run, process), each in processes.items():
        late = [row for row in each if int(row["minute"]) > WARM]
        first, last = (late or each)[0], each[-1]
        found.append(
            {"run": run, "process": process, "minutes": int(last["minute"])}
            | {name: int(last[name]) for name in ("loads", "calls", "saves", "wrong", "errors")}
            | {
                f"{name}_{when}": int(row[name])
                for name in ("anonymous_kb", "rss_kb", "mappings", "files", "threads")
                for when, row in (("first", first), ("last", last))
            }
            | {"kb_per_hour": _slope(late), "kb_per_hour_at_last": _slope(late[-(len(late) // 3) :])}
        )
    return found


def _slope(each: list[dict[str, str]]) -> float:
    """Return how many KB an hour a process grew; NaN of less than three rows."""
    if len(each) < 3:
        return float("nan")
    line = np.polyfit([int(row["minute"]) for row in each], [int(row["anonymous_kb"]) for row in each], 1)
    return round(60 * float(line[0]), 1)
