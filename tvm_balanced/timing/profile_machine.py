"""Measure a machine profile: the time of every kernel on this machine, which is compared with its model."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import tvm

from tvm_balanced.compiler.build import build
from tvm_balanced.core.caches import CACHE_MULTIPLE, last_level_cache
from tvm_balanced.core.stderr_filter import quiet_tvm
from tvm_balanced.errors import TargetError
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.host import runs_here
from tvm_balanced.schedules import Kernel
from tvm_balanced.selection.machine_profile import ARITHMETIC, MEMORY, MachineTimes, measured_kernels, measured_workload
from tvm_balanced.timing.rotating import rotation, time_rotating


@quiet_tvm()
def measure(target: tvm.target.Target, progress: Callable[[str], None] = lambda _: None) -> MachineTimes:
    """Time every kernel that runs on this machine, on one thread; takes about a minute.

    Parameters
    ----------
    target : tvm.target.Target
        This machine.
    progress : callable
        Gets a text before each kernel, such as "3 of 20: cpu_dense float32".

    Raises
    ------
    TargetError
        If `target` is another machine.
    """
    if not runs_here(target):
        raise TargetError(f"{target} is not this machine, and only this one can be measured; run profile-machine on that machine")
    arithmetic, memory = {}, {}
    known = list(measured_kernels(target))
    for at, (name, kernel, dtype) in enumerate(known, 1):
        progress(f"{at} of {len(known)}: {name}")
        arithmetic[name] = tuple(_seconds(kernel, dtype, shape, 0, target) for _, *shape in ARITHMETIC)
        memory[name] = _seconds(kernel, dtype, MEMORY, CACHE_MULTIPLE * last_level_cache(), target)
    facts = environment.describe()
    source = f"{facts['cpu']}, apache-tvm {facts['versions']['apache-tvm']}, {datetime.now(UTC).date()}"
    return MachineTimes(arithmetic, memory, source)


def _seconds(kernel: Kernel, dtype: str, shape: Sequence[int], rotate: int, target: tvm.target.Target) -> float:
    """Return what a layer (N, K, M) takes, its weights among `rotate` bytes of copies."""
    workload = measured_workload(kernel, dtype, shape)
    func = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    main = build(func, target)["main"]
    _, arguments = rotation(workload, rotate)
    return time_rotating(main, 1, arguments)
