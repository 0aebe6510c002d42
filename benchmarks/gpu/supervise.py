"""Run the plan in a process that may die: a kernel with an invalid access ends CUDA for its process, but not the run."""

import ctypes
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import IO

from benchmarks.gpu.folder import DIED, Folder

SILENT = 240.0  # seconds after which a unit counts as hanging
CLOSING = 20.0  # seconds that a unit may run past the end
IDLE_DEATHS = 2  # consecutive workers that may die before they begin anything


def end_with_parent() -> None:
    """Let Linux kill this process when its parent dies. Otherwise it would continue beside the
    worker of the next run.
    """
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def supervise(arguments: Sequence[str], folder: Folder, until: float) -> int:
    """Start workers, one after another, until the plan is done or time is out; return the last one's exit status.

    Parameters
    ----------
    arguments : sequence of str
        Arguments of the worker: `python -m benchmarks.gpu --worker ...`.
    folder : Folder
        Units that died are recorded there.
    until : float
        End, on the clock of time.time.
    """
    idle = 0
    while True:
        status, begun, said = _one_worker([sys.executable, "-m", "benchmarks.gpu", "--worker", *arguments], folder, until)
        idle = 0 if begun else idle + 1
        if status == 0 or time.time() >= until or idle >= IDLE_DEATHS:
            if status and not begun:
                print("\n".join(said), file=sys.stderr)
            return status


def _one_worker(command: Sequence[str], folder: Folder, until: float) -> tuple[int, bool, list[str]]:
    """Return a worker's exit status, whether it began a unit, and its last output."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    unit, since, begun, why = "", time.time(), False, ""
    said: deque[str] = deque(maxlen=12)
    while True:
        try:
            line = lines.get(timeout=1)
        except queue.Empty:
            late = time.time() > until + CLOSING
            if late or time.time() - since > SILENT:
                why = "time was out" if late else f"it said nothing for {SILENT:.0f} s"
                process.kill()
                since = float("inf")
            continue
        if line is None:
            break
        since = time.time()
        said.append(line)
        if line.startswith("begin "):
            unit, begun = line.removeprefix("begin "), True
        elif line.startswith(("done ", "failed ")):
            unit = ""
            print(line, flush=True)
    status = process.wait()
    if unit and why != "time was out":  # a unit that ran out of time is tried again
        folder.finish(unit, DIED, 0, why or f"its process ended with {status}: {' | '.join(list(said)[-4:])}")
        print(f"died {unit}", flush=True)
    return status, begun, list(said)


def _read(stream: IO[str], lines: "queue.Queue[str | None]") -> None:
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(None)
