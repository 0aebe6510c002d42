"""A compiled module beside the model that it was compiled from."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tvm_balanced.core.comparison import Comparison, compare_outputs
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.validation import check_tolerance, require
from tvm_balanced.frontend.exported_program import to_numpy
from tvm_balanced.frontend.inference import inference
from tvm_balanced.runtime.compiled_module import CompiledModule


def compare(
    module: CompiledModule,
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
) -> Comparison:
    """Compare the outputs of both on the same inputs; see `api.compare`."""
    require("module", module, CompiledModule, "a compiled module, as compile returns it")
    require("model", model, nn.Module, "the torch.nn.Module that it was compiled from")
    check_tolerance(tolerance)
    args = (args,) if isinstance(args, torch.Tensor) else tuple(args)
    with inference(model):
        want = _leaves(model(*args, **(kwargs or {})))
    # clones, because a donated input holds an output afterwards
    args, kwargs = pytree.tree_map_only(torch.Tensor, torch.Tensor.clone, (args, dict(kwargs or {})))
    got = _leaves(module(*args, **kwargs))
    return Comparison("the given inputs", compare_outputs(module.facts.outputs, want, got, tolerance))


def _leaves(outputs: Any) -> list[Array]:
    return [to_numpy(leaf) for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
