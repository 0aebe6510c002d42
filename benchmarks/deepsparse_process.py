"""DeepSparse in its own environment and process. `python -m benchmarks.deepsparse_process` creates build/deepsparse.

1.8.0 is the last version with a wheel. It pins old versions of NumPy, ONNX and others, so it cannot
share an environment with the rest.
"""

import atexit
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tvm_balanced.core.encoding import Array
from tvm_balanced.timing.paired import Seconds

REQUIREMENT = "deepsparse==1.8.0"
ENVIRONMENT = Path(__file__).parent.parent / "build" / "deepsparse"
PYTHONS = ("3.11", "3.10", "3.9", "3.8")  # those that it has wheels for


class EngineError(RuntimeError):
    """An engine cannot be installed or cannot run; the message is one sentence with the reason."""


def installed(environment: Path = ENVIRONMENT) -> bool:
    """Return whether the environment is complete."""
    return (environment / "ready").is_file()


def install(environment: Path = ENVIRONMENT, requirement: str = REQUIREMENT) -> None:
    """Create the environment if it is missing; takes 500 MB.

    Raises
    ------
    EngineError
        If no fitting Python is here or pip finds no package.
    """
    if installed(environment):
        return
    python = next((path for version in PYTHONS if (path := shutil.which(f"python{version}"))), None)
    if f"{sys.version_info.major}.{sys.version_info.minor}" in PYTHONS:
        python = sys.executable
    if python is None:
        raise EngineError(f"{requirement} needs a Python of {', '.join(PYTHONS)} and none was found")
    subprocess.run([python, "-m", "venv", "--clear", environment], check=True)
    command: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", requirement]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise EngineError(f"pip could not install {requirement}: {(errors or ['no reason given'])[-1]}")
    (environment / "ready").touch()


def try_install(wanted: Iterable[str]) -> None:
    """Install DeepSparse if it is requested; if that fails, print the reason in one line."""
    if "deepsparse" in wanted:
        try:
            install()
        except (EngineError, subprocess.CalledProcessError) as error:
            print(f"deepsparse: {error}")


class Worker:
    """A baseline: DeepSparse's engines in a process, which times each call itself and reports the seconds.

    Parameters
    ----------
    folder : Path
        Holds x.npy (M, K); receives the result. It may be removed once `fetch_result` was called.
    threads : int
    command : sequence, optional
        A command to run instead of the worker.
    """

    def __init__(self, folder: Path, threads: int, command: Iterable[str | Path] | None = None) -> None:
        worker = Path(__file__).parent / "deepsparse_worker.py"
        command = command or [ENVIRONMENT / "bin" / "python", worker, folder, str(threads)]
        self._folder = folder
        # its telemetry would use the network
        environment = os.environ | {"NM_DISABLE_ANALYTICS": "1"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([*command], stdin=pipe, stdout=pipe, text=True, env=environment)
        self._y: Array = np.zeros(())
        atexit.register(self.close)

    def load(self, model: Path, rows: int) -> None:
        """Load one more copy of the weight."""
        self._ask(f"load {rows} {model}")

    def fetch_result(self) -> None:
        """Let the first copy compute y (M, N), for `result`."""
        self._ask("save 0")
        self._y = np.load(self._folder / "y.npy")

    def result(self) -> Array:
        """Return the first copy's result (M, N)."""
        return self._y

    def __call__(self, call: int) -> Seconds:
        """Compute with copy `call`, modulo their number."""
        return Seconds(self._ask(f"call {call}"))

    def close(self) -> None:
        """End the process, and wait: only then is its CPU time counted as this process's."""
        if self._process.returncode is None:
            self._process.communicate()

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        kind, _, answer = self._process.stdout.readline().rstrip("\n").partition(" ")
        if kind != "done":
            raise EngineError(f'deepsparse failed at "{line}": {answer or "its process ended"}')
        return answer


if __name__ == "__main__":
    try:
        install()
    except EngineError as fault:
        sys.exit(str(fault))
