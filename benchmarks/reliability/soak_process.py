"""One process of the soak: threads that load artifacts, call, clone, save, self-test and load again, and lines of JSON.

python -m benchmarks.reliability.soak_process FOLDER THREADS SHARE EVERY

FOLDER holds artifacts NAME.tb with NAME.npz, an input and its result. Each thread sleeps as long as SHARE of a core asks for. The
process says all EVERY seconds what it has done, and ends when its standard input is closed. It has no torch, as a machine that
only runs models.
"""

import gc
import json
import os
import re
import shutil
import sys
import threading
import time
from pathlib import Path

sys.modules["torch"] = None  # type: ignore[assignment]

import numpy as np  # noqa: E402

import tvm_balanced as tb  # noqa: E402

CALLS = 20  # between two of the other steps
COUNTS = ("calls", "loads", "saves", "clones", "self_tests", "wrong", "errors")


class Work:
    """What all threads share: the artifacts, and counts of what was done."""

    def __init__(self, folder: Path, threads: int, share: float) -> None:
        self.folder, self.sleep_per_second = folder, threads / share - 1
        self.known = {path.stem: dict(np.load(path)) for path in sorted(folder.glob("*.npz"))}
        self.counts, self.lock, self.stop = dict.fromkeys(COUNTS, 0), threading.Lock(), threading.Event()

    def note(self, **more: int) -> None:
        """Add to counts."""
        with self.lock:
            for name, count in more.items():
                self.counts[name] += count

    def check(self, module: tb.CompiledModule, name: str) -> None:
        """Call a module and compare its bits."""
        known = self.known[name]
        wrong = sum(not np.array_equal(module["main"].flat(known["x"])[0], known["y"]) for _ in range(CALLS))
        self.note(calls=CALLS, wrong=wrong)

    def round(self, rng: np.random.Generator, place: Path) -> None:
        """Load, call, clone, save, load what was saved, test it, and remove it."""
        name = str(rng.choice(list(self.known)))
        how = "shared" if rng.random() < 0.5 else "copied"
        module = tb.load(self.folder / f"{name}.tb", threads=int(rng.integers(1, 3)), weights=how)
        self.check(module, name)
        self.check(module.clone(), name)
        module.save(place)
        self.check(tb.load(place), name)
        self.note(loads=2, saves=1, clones=1)
        if rng.random() < 0.2:
            self.note(self_tests=1, wrong=not tb.self_test(place, threads=1).ok)
        shutil.rmtree(place)

    def run(self, number: int) -> None:
        """Do rounds until the process shall end."""
        rng, place = np.random.default_rng([os.getpid(), number]), self.folder / f"{os.getpid()}.{number}"
        while not self.stop.is_set():
            began = time.thread_time()
            try:
                self.round(rng, place)
            except Exception as error:
                self.note(errors=1)
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                shutil.rmtree(place, ignore_errors=True)
            self.stop.wait((time.thread_time() - began) * self.sleep_per_second)


def memory() -> dict[str, int]:
    """Return what this process has of memory in KB, and its mappings, files and threads."""
    gc.collect()
    status = dict(re.findall(r"^(\w+):\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE))
    sizes = {"rss_kb": int(status["VmRSS"]), "anonymous_kb": int(status["RssAnon"]), "threads": int(status["Threads"])}
    files = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return sizes | {"mappings": Path("/proc/self/maps").read_text().count("\n"), "files": files}


def main() -> None:
    """Start the threads and say what they have done."""
    folder, threads, share, every = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    work = Work(folder, threads, share)
    started = [threading.Thread(target=work.run, args=(number,)) for number in range(threads)]
    threading.Thread(target=lambda: (sys.stdin.read(), work.stop.set()), daemon=True).start()
    for thread in started:
        thread.start()
    while not work.stop.wait(every):
        with work.lock:
            print(json.dumps(work.counts | memory() | {"cpu_seconds": round(time.process_time(), 1)}), flush=True)
    for thread in started:
        thread.join()


if __name__ == "__main__":
    main()
