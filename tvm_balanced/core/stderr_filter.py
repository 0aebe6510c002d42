"""What TVM and torch print about models that compile and load well, and no user can act on: dropped, unless it is asked for.

TVM writes such remarks to standard error by itself, past any logger; nothing but the file descriptor can stop them.
"""

import contextlib
import logging
import os
import re
import select
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

VERBOSE = "TVM_BALANCED_VERBOSE"  # the environment variable that shows all, if it is set to anything but 0
REMARKS = re.compile(
    rb"Warning: (Scope (Saving|Loaded):|Fast mode segfaults when there are out-of-bounds"
    rb"|Unknown pragma pragma_scope|Detected pow\(x, y\) where y >= 3"  # of its own scatter; a power as torch means it
    rb"|BlockBuilder destroyed with remaining blocks)"  # while an exception is on its way, which says more
    rb"|^USDT:.* profiler_(start|stop)$"  # torch's profiler
)
TORCH = (
    (FutureWarning, ""),  # torch.export copies a deprecated class of its own
    (UserWarning, "The tensor attributes? .* assigned during export"),  # weights of a recurrent network, which it wraps
)
LOGGERS = ("torch.export", "torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")  # tracebacks, graphs


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
    before = {logger: logger.level for logger in map(logging.getLogger, LOGGERS)}
    with warnings.catch_warnings():
        for category, message in TORCH:
            warnings.filterwarnings("ignore", message, category)
        for logger in before:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in before.items():
                logger.setLevel(level)


END = b"tvm_balanced: end of what is filtered\n"
# What the child runs, without site packages, in some 15 ms. It passes on every line at once, up to the pipe's end and not up to
# END alone: a process that was started meanwhile may still write to it. Nobody reads `done` any more where it was held up.
CHILD = """
import os, re, sys
remarks, end, done = re.compile(%r), %r, int(sys.argv[1])
for line in sys.stdin.buffer:
    if line.endswith(end):
        os.write(2, line.removesuffix(end))
        try:
            os.write(done, b"x")
        except BrokenPipeError:
            pass
    elif not remarks.search(line):
        os.write(2, line)
"""


class _Filter:
    """Standard error led through a child process for as long as any thread is in `quiet_tvm`.

    A child, because what a process writes before it aborts, as LLVM does over a CPU that it does not know, must still be read.
    """

    def __init__(self) -> None:
        self.lock, self.users = threading.Lock(), 0
        self.original, self.done = -1, -1
        self.children: list[subprocess.Popen[bytes]] = []

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
            self.done, done = os.pipe()
            code = CHILD % (REMARKS.pattern, END)
            command = [sys.executable, "-I", "-S", "-c", code, str(done)]
            child = subprocess.Popen(command, stdin=reading, stdout=subprocess.DEVNULL, pass_fds=[done], start_new_session=True)
            self.children = [child, *(one for one in self.children if one.poll() is None)]
            os.dup2(writing, 2)
            for descriptor in (reading, writing, done):
                os.close(descriptor)

    def leave(self) -> None:
        with self.lock:
            self.users -= 1
            if self.users or self.original < 0:
                return
            _flush()
            with contextlib.suppress(BrokenPipeError):  # somebody has killed the child
                os.write(2, END)
            os.dup2(self.original, 2)
            os.close(self.original)
            select.select([self.done], [], [], 5)  # readable when the child has passed everything on, or has ended
            os.close(self.done)


def _flush() -> None:
    if sys.stderr is not None:  # as in a windowed or daemon process
        sys.stderr.flush()


_filter = _Filter()
