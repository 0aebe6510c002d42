"""All schedules of a workload's kernel on a target."""

import tvm

from tvm_balanced.schedules import ALL_KERNELS, Workload
from tvm_balanced.schedules.base.space import Space


def space_of(workload: Workload, target: tvm.target.Target) -> Space:
    """Return all schedules of a workload's kernel on a target."""
    kernel = ALL_KERNELS[workload.kernel]
    return kernel.sampled(kernel.prim_func(workload).with_attr("global_symbol", "main"), workload, target)


class Spaces:
    """The spaces of workloads on a target, each sampled once, because sampling costs a fifth of a trial."""

    def __init__(self, target: tvm.target.Target) -> None:
        self.target = target
        self._known: dict[Workload, Space] = {}

    def __getitem__(self, workload: Workload) -> Space:
        if workload not in self._known:
            self._known[workload] = space_of(workload, self.target)
        return self._known[workload]
