"""What TVM and torch print about models that compile and load well, and no user can act on: dropped, unless it is asked for.

TVM writes such remarks to standard error by itself, past any logger; nothing but the file descriptor can stop them.
"""

import contextlib
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator

VERBOSE = "TVM_BALANCED_VERBOSE"  # the environment variable that shows all, if it is set to anything but 0
REMARKS = re.compile(
    rb"Warning: (Scope (Saving|Loaded):|Fast mode segfaults when there are out-of-bounds"
    rb"|BlockBuilder destroyed with remaining blocks)"  # while an exception is on its way, which says more
)
TORCH = (
    (FutureWarning, ""),  # torch.export copies a deprecated class of its own
    (UserWarning, "The tensor attributes? .* assigned during export"),  # weights of a recurrent network, which it wraps
)


def verbose() -> bool:
    """Whether the user wants to see all."""
    return os.environ.get(VERBOSE, "0") not in ("", "0")


@contextlib.contextmanager
def quiet_tvm() -> Iterator[None]:
    """Drop lines with REMARKS from the process's standard error while the block runs; all others come through."""
    if verbose():
        yield
        return
    _filter.enter()
    try:
        yield
    finally:
        _filter.leave()


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """Drop torch's warnings about an export that goes well, and its log of one that does not, which an error here tells."""
    if verbose():
        yield
        return
    logger = logging.getLogger("torch.export")
    before = logger.level
    with warnings.catch_warnings():
        for category, message in TORCH:
            warnings.filterwarnings("ignore", message, category)
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(before)


class _Filter:
    """Standard error led through a pipe for as long as any thread is in `quiet_tvm`.

    A thread reads the pipe, for which TVM's calls let it: they release the interpreter's lock.
    """

    END = b"tvm_balanced: end of what is filtered\n"

    def __init__(self) -> None:
        self.lock, self.users = threading.Lock(), 0
        self.original = -1
        self.done = threading.Event()

    def enter(self) -> None:
        with self.lock:
            self.users += 1
            if self.users > 1:
                return
            _flush()
            try:
                self.original = os.dup(2)
            except OSError:  # standard error is closed
                self.original = -1
                return
            reading, writing = os.pipe()
            self.done = threading.Event()
            threading.Thread(target=self.copy, args=(reading, os.dup(self.original), self.done), daemon=True).start()
            os.dup2(writing, 2)
            os.close(writing)

    def leave(self) -> None:
        with self.lock:
            self.users -= 1
            if self.users or self.original < 0:
                return
            _flush()
            os.write(2, self.END)
            os.dup2(self.original, 2)
            os.close(self.original)
            self.done.wait(timeout=5)

    def copy(self, reading: int, original: int, done: threading.Event) -> None:
        # Up to the pipe's end, not up to END alone: a process that was started meanwhile may still write to it.
        with os.fdopen(reading, "rb") as lines:
            for line in lines:
                if line.endswith(self.END):
                    os.write(original, line.removesuffix(self.END))
                    done.set()
                elif not REMARKS.search(line):
                    os.write(original, line)
        os.close(original)


def _flush() -> None:
    if sys.stderr is not None:  # as in a windowed or daemon process
        sys.stderr.flush()


_filter = _Filter()
