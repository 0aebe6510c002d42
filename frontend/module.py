"""Import an nn.Module."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import ImportedFunction, ImportedModel
from tvm_balanced.core.stderr_filter import quiet_torch
from tvm_balanced.errors import InputError, ModelError, Terminated, first_line
from tvm_balanced.frontend import recurrent
from tvm_balanced.frontend.arrays import to_numpy
from tvm_balanced.frontend.eager import with_model
from tvm_balanced.frontend.exported_program import import_exported_program
from tvm_balanced.frontend.exporting import EXPORTING
from tvm_balanced.frontend.key_value_cache import replace_others, takes_cache
from tvm_balanced.frontend.live_weights import fold
from tvm_balanced.frontend.padded_encoder import padded_with_zeros
from tvm_balanced.frontend.refusals import advice, check_tensors, import_advice
from tvm_balanced.frontend.released_weights import releasing
from tvm_balanced.frontend.structures import plain_dicts, register_dataclasses, registered_anew, with_defaults


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
    folded, args, kwargs = plain_copy(model), plain_dicts(tuple(args)), plain_dicts(dict(kwargs or {}))
    program = export(folded, args, kwargs, dynamic_shapes)
    try:
        imported = import_exported_program(program, source_of(model), [folded], donate)
    except ModelError as error:
        why = import_advice(folded, error, args, kwargs)
        raise (error if why is None else ModelError(f"{source_of(model)} cannot be imported: {why}")) from error.__cause__
    imported.main.call = with_defaults(imported.main.call, folded.forward)
    if not takes_cache(args, kwargs):  # the model itself would make it longer with each of the calls that are timed
        run_as_called(imported.main, folded, source_of(model))
    return imported


def run_as_called(entry: ImportedFunction, model: nn.Module, source: str) -> None:
    """Let an entry point be timed beside a model as its user calls it, and the traced program be checked by it."""
    entry.eager = eager = with_model(entry.eager, model)
    if eager is None:
        return

    def original() -> list[Array]:
        args, kwargs = pytree.tree_map_only(torch.Tensor, torch.Tensor.clone, (eager.args, dict(eager.kwargs)))
        try:
            with torch.no_grad(), releasing(model.parameters()):
                result = eager.call(*args, **kwargs)
        except Exception as error:  # the user's model
            said = f"{type(error).__name__}: {first_line(error)}"
            raise ModelError(f"{source} does not run on the examples ({said}); give examples that it takes") from error
        return [to_numpy(leaf) for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]

    entry.original = original


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
    replace_others()
    register_dataclasses(*args, *(kwargs or {}).values())
    check_tensors(args, kwargs)
    try:
        with EXPORTING, torch.no_grad(), quiet_torch(), recurrent.any_length(), padded_with_zeros():
            while True:  # once more for each dataclass that the model returns and torch did not know
                try:
                    return torch.export.export(model, tuple(args), dict(kwargs or {}), dynamic_shapes=dynamic_shapes)
                except Exception as error:
                    if not registered_anew(error):
                        raise
    except Terminated:
        raise
    except SystemExit as error:
        raise ModelError(f"{type(model).__name__} ended with sys.exit({error.code!r}) in its forward; let it return") from error
    except Exception as error:  # export runs the model: anything may come out of it
        why = advice(model, error, args, kwargs or {}, dynamic_shapes is not None)
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
    fold(plain)
    return plain


def batch_dimension(args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> Any:
    """Return dynamic_shapes that make the first dimension of every tensor of some arguments one symbolic batch size."""
    batch = torch.export.Dim("batch")

    def first(leaf: Any) -> Any:
        return {0: batch} if isinstance(leaf, torch.Tensor) and leaf.dim() else None

    if kwargs:
        if args:
            raise InputError("examples by place and by name were given; --dynamic-batch takes all of them in one way")
        return {name: pytree.tree_map(first, value) for name, value in kwargs.items()}
    return tuple(pytree.tree_map(first, value) for value in args)
