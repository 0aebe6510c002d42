"""Measure a machine profile: the time of every kernel on this machine, relative to its model."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import tvm

from tvm_balanced.compiler.build import build
from tvm_balanced.core.caches import CACHE_MULTIPLE, last_level_cache
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.stderr_filter import quiet_tvm
from tvm_balanced.errors import TargetError
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.host import runs_here
from tvm_balanced.schedules import KERNELS, DenseKernel, Kernel, Roofline
from tvm_balanced.selection.machine_profile import MachineProfile
from tvm_balanced.selection.rooflines import roofline_of
from tvm_balanced.timing.rotating import rotation, time_rotating

PATTERN = BalancedPattern(2, 16)  # the pattern of measured sparse kernels
# For arithmetic: (first M it is used for, N, K, M) of layers that fit the caches. For memory: (N,
# K) of a layer that is loaded from memory at M = 1.
ARITHMETIC = ((1, 768, 3072, 1), (4, 3072, 768, 8), (17, 3072, 768, 24), (32, 3072, 768, 64))
MEMORY = (4096, 4096)
UNLIMITED = 1e9  # an unlimited rate, in 10^9 a second


@quiet_tvm()
def measure(target: tvm.target.Target, progress: Callable[[str], None] = lambda _: None) -> MachineProfile:
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
    machine = roofline_of(target, threads=1)
    no_memory = replace(machine, gbytes=UNLIMITED, gbytes_all=UNLIMITED)
    no_arithmetic = replace(machine, gmacs=UNLIMITED)
    arithmetic, memory = {}, {}
    pairs = [(kernel, dtype) for kernel in KERNELS.values() for dtype in kernel.dtypes]
    pairs = [(kernel, dtype) for kernel, dtype in pairs if kernel.refuses(target, *MEMORY, dtype) is None]
    for at, (kernel, dtype) in enumerate(pairs, 1):
        name = f"{kernel.name} {dtype}"
        progress(f"{at} of {len(pairs)}: {name}")
        arithmetic[name] = tuple(
            (first, _factor(kernel, dtype, (n, k, m), "hot", target, no_memory)) for first, n, k, m in ARITHMETIC
        )
        memory[name] = _factor(kernel, dtype, (*MEMORY, 1), "cold", target, no_arithmetic)
    facts = environment.describe()
    source = f"{facts['cpu']}, apache-tvm {facts['versions']['apache-tvm']}, {datetime.now(UTC).date()}"
    return MachineProfile(arithmetic, memory, source)


def _factor(
    kernel: Kernel, dtype: str, shape: tuple[int, int, int], regime: str, target: tvm.target.Target, machine: Roofline
) -> float:
    n, k, m = shape
    workload = kernel.workload(m, n, k, None if isinstance(kernel, DenseKernel) else PATTERN, dtype)
    func = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    main = build(func, target)["main"]
    _, arguments = rotation(workload, CACHE_MULTIPLE * last_level_cache() if regime == "cold" else 0)
    return time_rotating(main, 1, arguments) / kernel.seconds(workload, m, machine)
