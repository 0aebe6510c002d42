"""Run a model whose weights are files that are mapped to memory: each is read for the operator that takes it, and given back."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tvm_balanced.core.mapped_files import is_mapped, release_range


def releasing(tensors: Iterable[torch.Tensor]) -> AbstractContextManager[Any]:
    """Return a context in which an operator's mapped operands leave memory after it; a plain one where none of `tensors` is."""
    return ReleasedWeights() if any(is_mapped(tensor.data_ptr()) for tensor in tensors) else nullcontext()


class ReleasedWeights(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within this context, no more weights are in memory than one operator reads."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an operator; afterwards, give back what of its operands lies in a mapped file."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            for leaf in pytree.tree_leaves((args, kwargs)):
                if isinstance(leaf, torch.Tensor):
                    release_range(leaf.data_ptr(), leaf.numel() * leaf.itemsize)
        return result
