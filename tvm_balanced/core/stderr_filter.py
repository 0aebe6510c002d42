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


LINGER = 2.0  # seconds that a child is kept for the next block: to start one takes 19 ms of the CPU, a tenth of a small model


class _Child:
    """A child that filters what is written to `writing`, and says on `done` when it has passed everything on.

    It ends when nothing holds the other end of its pipe any more.
    """

    def __init__(self, place: tuple[int, int]) -> None:
        self.place, self.owner = place, os.getpid()
        reading, self.writing = os.pipe()
        self.done, done = os.pipe()
        command = [sys.executable, "-I", "-S", "-c", CHILD % (REMARKS.pattern, END), str(done)]
        self.process = subprocess.Popen(
            command, stdin=reading, stdout=subprocess.DEVNULL, pass_fds=[done], start_new_session=True
        )
        os.close(reading)
        os.close(done)

    def end(self) -> None:
        """Say that a block has ended."""
        with contextlib.suppress(BrokenPipeError):  # somebody has killed it
            os.write(self.writing, END)

    def drained(self) -> bool:
        """Wait until the child has passed on what came before the end; whether it has: it may have been killed or held up."""
        mine = self.owner == os.getpid()
        return bool(mine and select.select([self.done], [], [], 5)[0] and os.read(self.done, 1))

    def close(self) -> None:
        os.close(self.writing)
        os.close(self.done)


class _Filter:
    """Standard error led through a child process for as long as any thread is in `quiet_tvm`.

    A child, because what a process writes before it aborts, as LLVM does over a CPU that it does not know, must still be read.
    """

    def __init__(self) -> None:
        self.lock, self.users, self.original = threading.Lock(), 0, -1
        self.child: _Child | None = None
        self.ending: list[subprocess.Popen[bytes]] = []
        self.timer: threading.Timer | None = None

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
            child = self._started()
            os.dup2(child.writing, 2)

    def leave(self) -> None:
        with self.lock:
            self.users -= 1
            if self.users or self.original < 0:
                return
            _flush()
            assert self.child is not None
            self.child.end()
            os.dup2(self.original, 2)
            os.close(self.original)
            if not self.child.drained():
                self._drop()
                return
            self.timer = threading.Timer(LINGER, self._idle, [self.child])
            self.timer.daemon = True
            try:
                self.timer.start()
            except RuntimeError:  # Python is about to end
                self._drop()

    def forked(self) -> None:
        """Hold nothing of the child of the process that this one was forked from; where that was in a block, so is this one."""
        self.lock = threading.Lock()
        if self.child is not None and not self.users:
            self.child.close()
            self.child, self.timer, self.ending = None, None, []

    def _started(self) -> _Child:
        """Return the last block's child, if it is still there and writes to where standard error goes now; else a new one."""
        if self.timer is not None:
            self.timer.cancel()
        found = os.fstat(self.original)
        place = found.st_dev, found.st_ino
        if self.child is not None and (self.child.place != place or self.child.process.poll() is not None):
            self._drop()
        if self.child is None:
            self.child = _Child(place)
        return self.child

    def _idle(self, child: _Child) -> None:
        with self.lock:
            if child is self.child and not self.users:
                self._drop()

    def _drop(self) -> None:
        if self.child is not None:
            self.child.close()
            self.ending = [one for one in (self.child.process, *self.ending) if one.poll() is None]
            self.child = None


def _flush() -> None:
    if sys.stderr is not None:  # as in a windowed or daemon process
        sys.stderr.flush()


_filter = _Filter()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_filter.forked)
