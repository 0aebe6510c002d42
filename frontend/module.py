"""Import an nn.Module."""

import copy
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.stderr_filter import quiet_torch
from tvm_balanced.errors import ModelError, Terminated
from tvm_balanced.frontend import recurrent
from tvm_balanced.frontend.exported_program import import_exported_program
from tvm_balanced.frontend.refusals import advice, check_tensors

# torch.export changes torch's own classes while it traces: one thread at a time, and nothing else that traces meanwhile.
EXPORTING = threading.RLock()


def import_module(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    donate: Mapping[str, str] | None = None,
) -> ImportedModel:
    """Import a module through torch.export. The module itself is not changed.

    Parameters
    ----------
    model : torch.nn.Module
    args, kwargs
        Example arguments: tensors with the shapes and dtypes of later calls.
    dynamic_shapes : optional
        As for torch.export.export, for instance ({0: torch.export.Dim("batch")},).
    donate : optional
        Name of an input to the name of the output that takes its place.

    Raises
    ------
    InputError
        If an example is no tensor with data, or an input cannot be donated.
    ModelError
        If torch cannot export the model, or TVM cannot import the exported program.
    """
    folded = plain_copy(model)
    return import_exported_program(export(folded, args, kwargs, dynamic_shapes), source_of(model), [folded], donate)


def source_of(model: nn.Module) -> str:
    """Return the origin of a module for the manifest: its class."""
    return f"{type(model).__module__}.{type(model).__qualname__}"


def export(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> torch.export.ExportedProgram:
    """Return the exported program of a plain module in eval mode; parameters as for `import_module`.

    Raises
    ------
    InputError
        If an example is no tensor with data.
    ModelError
        If torch cannot export it.
    """
    check_tensors(args, kwargs)
    try:
        with EXPORTING, torch.no_grad(), quiet_torch(), recurrent.any_length():
            return torch.export.export(model, tuple(args), dict(kwargs or {}), dynamic_shapes=dynamic_shapes)
    except Terminated:
        raise
    except SystemExit as error:
        raise ModelError(f"{type(model).__name__} ended with sys.exit({error.code!r}) in its forward; let it return") from error
    except Exception as error:  # export runs the model: anything may come out of it
        why = advice(model, error, dynamic_shapes is not None)
        raise ModelError(f"torch.export cannot export {type(model).__name__}: {why}") from error


def plain_copy(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode with pruning masks and parametrizations folded into plain weights.

    Every tensor that needs no folding is shared with the original, so a copy of a large model is
    small.
    """
    attributes = [value for module in model.modules() for value in vars(module).values()]
    tensors = [*model.parameters(), *model.buffers(), *(a for a in attributes if isinstance(a, torch.Tensor))]
    shared: dict[int, Any] = {id(tensor): tensor for tensor in tensors}
    try:
        plain = copy.deepcopy(model, shared).eval()
    except Terminated:
        raise
    except (Exception, SystemExit) as error:  # any part of the model may raise anything
        raise ModelError(
            f"{type(model).__name__} cannot be copied ({error}); export it yourself and give the ExportedProgram"
        ) from error
    with torch.no_grad():
        for module in plain.modules():
            _fold(module)
            _densify(module)
    return plain


def _densify(module: nn.Module) -> None:
    """Replace parameters and buffers in a sparse layout, such as COO or CSR, by dense ones of the same values."""
    for name, weight in module._parameters.items():
        if weight is not None and weight.layout != torch.strided:
            module._parameters[name] = nn.Parameter(weight.detach().to_dense(), requires_grad=False)
    for name, buffer in module._buffers.items():
        if buffer is not None and buffer.layout != torch.strided:
            module._buffers[name] = buffer.to_dense()


def _fold(module: nn.Module) -> None:
    # deepcopy kept the parameters themselves, so folded weights must be new tensors.
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod):
            name = hook._tensor_name
            mask, original = getattr(module, f"{name}_mask"), getattr(module, f"{name}_orig")
            module.__dict__.pop(name, None)
            for attribute in (f"{name}_orig", f"{name}_mask"):
                delattr(module, attribute)
            module.register_parameter(name, nn.Parameter(original * mask.to(original.dtype), requires_grad=False))
    for key in [k for k, hook in module._forward_pre_hooks.items() if isinstance(hook, prune.BasePruningMethod)]:
        del module._forward_pre_hooks[key]
    if parametrize.is_parametrized(module):
        # not remove_parametrizations: it deletes the property from a class that the original module still has
        values = {name: getattr(module, name).detach().clone() for name in module.parametrizations}  # type: ignore[union-attr]
        del module.parametrizations
        module.__class__ = parametrize.type_before_parametrizations(module)
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value, requires_grad=False))
