"""The runner of this process; `rpc` measures on other machines."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tvm
from tvm import tirx

from tvm_balanced.compiler.build import build
from tvm_balanced.core.caches import CACHE_MULTIPLE, last_level_cache
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.ratio import Ratio
from tvm_balanced.errors import last_line
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.huge_pages import collapse
from tvm_balanced.runtime.tensors import view
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.schedules.spaces import Spaces
from tvm_balanced.testing.operands import Arguments, relative_error
from tvm_balanced.timing.paired import Implementation, Seconds, measure_paired
from tvm_balanced.timing.rotating import Rotation, calls_together, empty_result, rotation, time_rotating
from tvm_balanced.tuning.log.record import Measured
from tvm_balanced.tuning.runners.base import LEAST_ROUNDS, ROUNDS, Built, Candidate, Confirmed, attempt, dense_workload, tolerance

HELD_BYTES = 256 << 20  # of arguments of the most recently measured workloads
log = logging.getLogger(__name__)


class LocalRunner:
    """Build and time candidates in this process. Starting a worker process costs as much as a whole
    search, because it has to import TVM.

    Parameters
    ----------
    target : tvm.target.Target
        This machine.
    threads : int
        Threads of a call.
    rotate : int
        Bytes of weights to rotate, so that each call finds its weights in the same cache or memory
        as in the model: for instance the size of the model's weights. At most CACHE_MULTIPLE times
        the last-level cache is used; 0 leaves them hot.
    """

    parallel = 1

    def __init__(self, target: tvm.target.Target, threads: int, rotate: int = 0) -> None:
        self.target, self.threads, self.spaces = target, threads, Spaces(target)
        self.rotate = min(rotate, CACHE_MULTIPLE * self._cache_bytes())
        self.stop: Callable[[], bool] = lambda: False
        self._held: OrderedDict[Workload, tuple[Arguments, Rotation]] = OrderedDict()

    def fits(self, workload: Workload, decisions: Decisions) -> bool:
        return True  # a kernel may use too many registers or too much cache of a CPU; it is then slow, not wrong

    def build_all(self, candidates: Sequence[Candidate]) -> Iterator[Built]:
        return (attempt(self._build, candidate) for candidate in candidates)

    def run_all(self, workload: Workload, built: Sequence[Built]) -> Iterator[Measured]:
        _, copies = self._arguments(workload)
        for one in built:
            try:
                yield Measured(one.decisions, self._time(one.code, copies))
            except Exception as error:  # TVM raises many kinds; the search continues without the candidate
                yield Measured(one.decisions, None, last_line(error))

    def confirm(self, workload: Workload, candidates: Sequence[Decisions], seconds: float) -> Confirmed | None:
        space, (arguments, copies) = self.spaces[workload], self._arguments(workload)
        reference, right, errors = arguments.reference(), {}, {}
        for decisions in dict.fromkeys((space.default, *candidates)):
            try:
                main = self._build(space.replay(decisions))
                errors[decisions] = self._error(workload, main, copies[0], reference)
            except Exception as error:  # TVM raises many kinds; the race continues without it
                log.debug("%s cannot be raced: %s", decisions, last_line(error))
                continue
            if errors[decisions] <= tolerance(workload):
                right[decisions] = main
        others = {decisions: right[decisions] for decisions in candidates if decisions in right}
        if space.default not in right or not others:
            return None
        best, gain = self._race(right[space.default], others, copies, seconds)
        return Confirmed(best, gain, errors[best])

    def dense_seconds(self, workload: Workload) -> float | None:
        dense = dense_workload(workload, self.target)
        if dense is None:
            return None
        space, (_, copies) = self.spaces[dense], rotation(dense, self.rotate, self._put)
        try:
            return self._time(self._build(space.replay(space.default)), copies)
        except Exception as error:  # it is only there for comparison
            log.debug("the dense kernel cannot be timed: %s", last_line(error))
            return None

    def close(self) -> None:
        self._held.clear()

    def _cache_bytes(self) -> int:
        return last_level_cache()

    def _put(self, array: Array) -> Any:
        """Copy an array to where kernels read it."""
        tensor = tvm.runtime.tensor(array)
        collapse([tensor])
        return tensor

    def _read(self, tensor: Any) -> Array:
        """Return the contents of a result of `_put`."""
        return view(tensor)

    def _build(self, func: tirx.PrimFunc) -> Any:
        """Compile a scheduled function to a callable."""
        return build(func, self.target)["main"]

    def _time(self, main: Any, copies: Rotation) -> float:
        return time_rotating(main, self.threads, copies)

    def _arguments(self, workload: Workload) -> tuple[Arguments, Rotation]:
        if workload not in self._held:
            self._held[workload] = rotation(workload, self.rotate, self._put)
        self._held.move_to_end(workload)
        while len(self._held) > 1 and sum(a.packed * len(r) for a, r in self._held.values()) > HELD_BYTES:
            self._held.popitem(last=False)
        return self._held[workload]

    def _error(self, workload: Workload, main: Any, given: list[Any], reference: Array) -> float:
        use_threads(self.threads)
        y = self._put(empty_result(workload))
        main(*given[:-1], y)
        return relative_error(self._read(y), reference)

    def _race(self, default: Any, others: Mapping[Decisions, Any], copies: Rotation, seconds: float) -> tuple[Decisions, Ratio]:
        """Return the fastest of `others`, and how many times faster than the default it is."""
        calls = calls_together(self._time(default, copies))
        racers = {"default": default} | {str(decisions): main for decisions, main in others.items()}
        rivals = {
            # start apart in the rotation, or each would find in the cache what the previous one has just read
            name: self._rival(main, copies, place * len(copies) // len(racers), calls)
            for place, (name, main) in enumerate(racers.items())
        }
        timing = measure_paired(rivals, ROUNDS, seconds, warm=4 if len(copies) == 1 else 1, least=LEAST_ROUNDS)
        best = max(others, key=lambda decisions: timing.half(0).speedup(str(decisions), "default").p50)
        return best, timing.half(1).speedup(str(best), "default")

    def _rival(self, main: Any, copies: Rotation, offset: int, calls: int) -> Implementation:
        def run(call: int) -> Seconds:
            use_threads(self.threads)
            start = time.perf_counter()
            for place in range(calls):
                main(*copies[(call * calls + place + offset) % len(copies)])
            return Seconds((time.perf_counter() - start) / calls)

        return run


def cold_runner(threads: int) -> LocalRunner:
    """Return what measures layers here with weights from memory."""
    return LocalRunner(host_target(), threads, CACHE_MULTIPLE * last_level_cache())


def layer_runner(workload: Workload, threads: int, rotate: int = 0) -> LocalRunner:
    """Return what measures a layer without a model here; weights for one row of x, which are the bottleneck, come from memory,
    others from where so many bytes of them rotate.
    """
    return cold_runner(threads) if workload.m == 1 else LocalRunner(host_target(), threads, rotate)
