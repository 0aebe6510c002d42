"""Tasks: the distinct kernels of a model, each with how often a call of the model runs it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.multi_kernel import Variant
from tvm_balanced.transform.lower_dense_ops import LayerCall


@dataclass(frozen=True)
class Task:
    """A kernel to tune.

    Parameters
    ----------
    workload : Workload
        Its M is known.
    calls : int
        How often a call of the model runs it.
    layers : tuple of str
        The layers that it computes.
    """

    workload: Workload
    calls: int = 1
    layers: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """A readable name."""
        return self.workload.title


def tasks_of(calls: Sequence[LayerCall]) -> list[Task]:
    """Return the distinct workloads of the calls of a model's layers, in the order of their first call.

    A layer whose M is known only at the call is tuned at the M of its kernels' specializations for
    small M. Its other M use default tiles and are not tuned.
    """
    count: Counter[Workload] = Counter()
    names: dict[Workload, dict[str, None]] = {}
    for call in calls:
        for workload in (workload for variant in call.variants for workload in tunable(variant)):
            count[workload] += call.times
            names.setdefault(workload, {})[call.layer] = None
    return [Task(workload, times, tuple(names[workload])) for workload, times in count.items()]


def tunable(variant: Variant) -> list[Workload]:
    """Return the workloads with a known M whose decisions a variant uses: its own, or its
    specializations' for small M.
    """
    if variant.workload.m is not None:
        return [variant.workload]
    return [replace(variant.workload, m=tile) for tile in variant.small_tiles]


def shard(tasks: Sequence[Task], index: int, count: int) -> list[Task]:
    """Return the tasks of shard `index`, from 1 up to `count`; together, the shards of a model have all tasks."""
    return [task for place, task in enumerate(tasks) if place % count == index - 1]
