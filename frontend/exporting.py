"""The lock of everything that traces."""

import gc
import threading

# Of new objects that may lie in a cycle: with Python's own 700, looking for cycles takes an eighth of the time of tracing and
# compiling, which make very many small ones.
OBJECTS = 50_000


class Exporting:
    """A lock that its thread may take again. While it is held, Python looks for cycles of objects less often."""

    def __init__(self) -> None:
        self._lock, self._depth, self._before = threading.RLock(), 0, gc.get_threshold()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1
        if self._depth == 1:
            self._before = gc.get_threshold()
            least = max(self._before[0], OBJECTS) if self._before[0] else 0  # 0 says never
            gc.set_threshold(least, *self._before[1:])

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            gc.set_threshold(*self._before)
        self._lock.release()


# torch.export changes torch's own classes while it traces: one thread at a time, and nothing else that traces meanwhile.
EXPORTING = Exporting()
