"""The original model in PyTorch, to time it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from tvm_balanced.core.imported_model import Eager
from tvm_balanced.core.stderr_filter import quiet_tvm


def with_model(eager: Eager | None, model: nn.Module) -> Eager | None:
    """Return the same call of the model that a program was exported from: it may have faster ways in eager mode."""
    return None if eager is None else replace(eager, call=model)


@contextmanager
def running(threads: int) -> Iterator[None]:
    """Let calls of PyTorch use so many threads and keep no gradients."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(before)


def operator_times(eager: Eager, threads: int, rounds: int = 10) -> list[tuple[str, float]]:
    """Return the microseconds that each operator of PyTorch takes in one call of the original model, the slowest first.

    An operator's own time counts, without that of operators that it calls. Profiling adds about a microsecond to each.
    """
    with running(threads):
        eager.call(*eager.args, **eager.kwargs)
        with quiet_tvm(), profile(activities=[ProfilerActivity.CPU]) as profiled:
            for _ in range(rounds):
                eager.call(*eager.args, **eager.kwargs)
    times = [(row.key.removeprefix("aten::"), row.self_cpu_time_total / rounds) for row in profiled.key_averages()]
    return sorted((row for row in times if row[1] > 0), key=lambda row: -row[1])
