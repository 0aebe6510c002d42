"""Tasks: the distinct kernels of a model, each with how often a call of the model runs it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.multi_kernel import Share
from tvm_balanced.transform.lower_dense_ops import LoweredLayer


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


def tasks_of(layers: Sequence[LoweredLayer]) -> list[Task]:
    """Return the distinct kernels of layers, in the order of their first call.

    A layer whose M is known only at the call is tuned at the M of its kernel's specializations for
    small M. Its other M use default tiles and are not tuned.
    """
    calls: Counter[Workload] = Counter()
    names: dict[Workload, dict[str, None]] = {}
    for entry in layers:
        for workload in instances(entry.share):
            calls[workload] += 1
            names.setdefault(workload, {})[entry.layer] = None
    return [Task(workload, count, tuple(names[workload])) for workload, count in calls.items()]


def instances(share: Share) -> list[Workload]:
    """Return the workloads with a known M whose decisions a layer's share uses: its own, or its
    specializations for small M.
    """
    if share.workload.m is not None:
        return [share.workload]
    return [replace(share.workload, m=tile) for tile in share.small_tiles]


def shard(tasks: Sequence[Task], index: int, count: int) -> list[Task]:
    """Return the tasks of shard `index`, from 1 up to `count`; together, the shards of a model have all tasks."""
    return [task for place, task in enumerate(tasks) if place % count == index - 1]
