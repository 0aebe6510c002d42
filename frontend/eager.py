"""The original model in PyTorch, to time it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from tvm_balanced.core.imported_model import Eager


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
