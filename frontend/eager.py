"""The original model in PyTorch, to time it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from tvm_balanced.core.imported_model import Eager
from tvm_balanced.core.stderr_filter import quiet_tvm


def with_model(eager: Eager | None, model: nn.Module) -> Eager | None:
    """Return the same call of the model that a program was exported from: it may have faster ways in eager mode.

    Each call gets dicts and lists of its own, because a model may change them: sentence-transformers adds its results.
    """
    if eager is None:
        return None
    nested = any(isinstance(part, (dict, list)) for part in (*eager.args, *eager.kwargs.values()))

    def call(*args: Any, **kwargs: Any) -> Any:
        return model(*map(_own, args), **{name: _own(part) for name, part in kwargs.items()})

    return replace(eager, call=call if nested else model)


def _own(value: Any) -> Any:
    """Return a copy of dicts and lists that shares what is in them."""
    if type(value) is dict:
        return {key: _own(part) for key, part in value.items()}
    return [_own(part) for part in value] if type(value) is list else value


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
