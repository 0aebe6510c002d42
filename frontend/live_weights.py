"""What pruning, parametrizing and quantising tools leave in a live module, folded into plain dense weights."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune


def fold(plain: nn.Module) -> None:
    """Fold masks and parametrizations, and make sparse and weight-only quantised weights dense, in place.

    Parameters
    ----------
    plain : torch.nn.Module
        A copy that may share parameters with the original: those that need folding are replaced, none is written to.
    """
    with torch.no_grad():
        for module in plain.modules():
            _fold_masks(module)
            _fold_parametrizations(module)
            _densify(module)


def recognised(model: nn.Module) -> list[str]:
    """Return what `fold` would do with a module, a phrase each."""
    modules = list(model.modules())
    masks = sum(1 for module in modules for _ in _pruning_hooks(module))
    said = [f"multiplied {masks} weights by the masks of torch.nn.utils.prune"] if masks else []
    kinds = {
        type(part).__name__
        for module in modules
        if parametrize.is_parametrized(module)
        for parts in module.parametrizations.values()  # type: ignore[operator]
        for part in parts
    }
    said += [f"folded parametrizations ({', '.join(sorted(kinds))})"] if kinds else []
    tensors = [*model.parameters(), *model.buffers()]
    sparse = sum(_is_sparse(tensor) for tensor in tensors)
    quantised = [tensor for tensor in tensors if _is_quantised(tensor)]
    said += [f"made {sparse} sparse tensors dense"] if sparse else []
    if quantised:
        said.append(f"multiplied {len(quantised)} quantised weights by their scales ({type(quantised[0]).__name__})")
    return said


def _pruning_hooks(module: nn.Module) -> Iterator[tuple[int, Any]]:
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, prune.BasePruningMethod):
            yield key, hook


def _fold_masks(module: nn.Module) -> None:
    # deepcopy kept the parameters themselves, so folded weights must be new tensors
    for key, hook in list(_pruning_hooks(module)):
        name = hook._tensor_name
        mask, original = getattr(module, f"{name}_mask"), getattr(module, f"{name}_orig")
        module.__dict__.pop(name, None)
        for attribute in (f"{name}_orig", f"{name}_mask"):
            delattr(module, attribute)
        module.register_parameter(name, nn.Parameter(original * mask.to(original.dtype), requires_grad=False))
        del module._forward_pre_hooks[key]


def _fold_parametrizations(module: nn.Module) -> None:
    if not parametrize.is_parametrized(module):
        return
    # not remove_parametrizations: it deletes the property from a class that the original module still has
    values = {name: getattr(module, name).detach().clone() for name in module.parametrizations}  # type: ignore[union-attr]
    del module.parametrizations
    module.__class__ = parametrize.type_before_parametrizations(module)
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _densify(module: nn.Module) -> None:
    """Replace tensors in a sparse layout, such as COO or CSR, and weight-only quantised ones, by dense ones."""
    for name, weight in module._parameters.items():
        if weight is not None and (_is_sparse(weight) or _is_quantised(weight)):
            module._parameters[name] = nn.Parameter(_dense(weight.detach()), requires_grad=False)
    for name, buffer in module._buffers.items():
        if buffer is not None and (_is_sparse(buffer) or _is_quantised(buffer)):
            module._buffers[name] = _dense(buffer)


def _dense(tensor: Any) -> torch.Tensor:
    dense: torch.Tensor = tensor.to_dense() if _is_sparse(tensor) else tensor.dequantize()
    return dense


def _is_sparse(tensor: torch.Tensor) -> bool:
    return tensor.layout != torch.strided or isinstance(tensor, torch.sparse.SparseSemiStructuredTensor)


def _is_quantised(tensor: torch.Tensor) -> bool:
    """Whether it is a weight of torchao that stores integers or small floats, and whose activations stay as they are."""
    kind = type(tensor)
    if not kind.__module__.startswith("torchao.") or not hasattr(tensor, "dequantize"):
        return False
    return getattr(tensor, "act_quant_kwargs", None) is None
