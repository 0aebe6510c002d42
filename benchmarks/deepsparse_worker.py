"""Runs in DeepSparse's environment: `python deepsparse_worker.py FOLDER THREADS`. Answers one line on stdout for each on stdin.

load ROWS MODEL   -> done               one more engine, from an ONNX file
save N            -> done               FOLDER/y.npy is what engine N computes of FOLDER/x.npy
call N            -> done SECONDS       engine N, modulo their number; only its run is measured
                  -> failed REASON      instead of any of these
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library prints its banner on stdout
    import deepsparse  # type: ignore[import-not-found]

    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    x = [np.load(folder / "x.npy")]
    engines: list[Any] = []
    for line in sys.stdin:
        command, *rest = line.rstrip("\n").split(" ", 2)
        answer = "done"
        try:
            if command == "load":
                engines.append(deepsparse.Engine(rest[1], batch_size=int(rest[0]), num_cores=threads))
            else:
                engine = engines[int(rest[0]) % len(engines)]
                start = time.perf_counter()
                y = engine.run(x, val_inp=False)
                seconds = time.perf_counter() - start
                if command == "save":
                    np.save(folder / "y.npy", y[0])
                else:
                    answer = f"done {seconds!r}"
        except Exception as error:  # pass any error to the other side
            answer = "failed " + " ".join(str(error).split())
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
