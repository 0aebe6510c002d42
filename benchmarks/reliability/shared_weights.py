"""Two processes with one model of a gigabyte: what they have in memory, by PSS (proportional set size), and what a call takes.

`weights="shared"` maps the files, whose pages both processes share; "copied" gives each process a copy of its own in huge pages.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import tvm_balanced as tb
from benchmarks.reliability import rows

SIDE = 8192  # of a layer of 256 MB, dense: the most bytes for the least work to compile
SERVER = """
import json, re, sys, time
sys.modules["torch"] = None
import numpy as np, tvm_balanced as tb
def kb(name):
    return int(re.search(rf"^{name}:\\s+(\\d+) kB", open("/proc/self/smaps_rollup").read(), re.MULTILINE)[1])
start = time.perf_counter()
module = tb.load(sys.argv[1], threads=1, weights=sys.argv[2], verify=False)
loaded = time.perf_counter() - start
x = np.ones((1, int(sys.argv[3])), np.float32)
module(x)
print("ready", flush=True)
for line in sys.stdin:
    took = []
    for _ in range(int(line)):
        start = time.perf_counter()
        module(x)
        took.append(time.perf_counter() - start)
    sizes = {"pss_kb": kb("Pss"), "huge_kb": kb("AnonHugePages"), "rss_kb": kb("Rss")}
    print(json.dumps(sizes | {"load_s": loaded, "calls": took}), flush=True)
"""


def run(label: str, gigabytes: float, side: int = SIDE) -> None:
    """Compile the model, load it twice in each way, and record and print what was found."""
    count = max(1, round(gigabytes * 1e9 / (side * side * 4)))
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / "large.tb"
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Linear(side, side) for _ in range(count))).eval()
        tb.compile(model, (torch.ones(1, side),), threads=1).save(place)
        del model
        nbytes = sum(file.stat().st_size for file in (place / "weights").iterdir())
        for how in ("shared", "copied"):
            row = {"weights": how, "bytes": nbytes} | together(place, how, side)
            rows.write("shared", label, row)
            print(row, flush=True)


def together(place: Path, how: str, side: int) -> dict[str, object]:
    """Return what two processes have in memory, less what two with no weights to speak of have, and the time of a call of one."""
    command = [sys.executable, "-c", SERVER, str(place), how, str(side)]
    started: list[subprocess.Popen[str]] = []
    try:
        for _ in range(2):
            started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            assert _line(started[-1]) == "ready\n"
        said = [_ask(process, calls) for process, calls in zip(started, (1, 15), strict=True)]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return {
        "pss_mb_of_both": round(sum(one["pss_kb"] for one in said) * 1024 / 1e6),
        "rss_mb_of_both": round(sum(one["rss_kb"] for one in said) * 1024 / 1e6),
        "huge_pages_mb_of_both": round(sum(one["huge_kb"] for one in said) * 1024 / 1e6),
        "load_s": f"{np.median([one['load_s'] for one in said]):.2f}",
        "call_ms": f"{np.median(said[1]['calls']) * 1e3:.1f}",
    }


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _ask(process: "subprocess.Popen[str]", calls: int) -> dict[str, float]:
    assert process.stdin is not None
    process.stdin.write(f"{calls}\n")
    process.stdin.flush()
    return dict(json.loads(_line(process)))
