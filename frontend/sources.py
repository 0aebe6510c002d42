"""The ways in: recognise what a model was given as, and import it. Every one of them ends in an ImportedModel."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_balanced.core.entry_point import EntryPoint, check_entry_points
from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.validation import check_count, check_donate, check_examples, check_path, require
from tvm_balanced.errors import InputError, ModelError

HELP = (
    "a torch.nn.Module, an ExportedProgram, an ONNX model, package.module:factory, or the path of a .pt2 file, a .onnx file or a "
    "folder of transformers"
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a caller gives besides the model. Parameters as for `api.compile`; `dynamic_batch` makes the first dimension of every
    input a symbol, `batch` and `length` are sizes of examples that are made here, `max_length` that of a language model's cache.
    """

    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    dynamic_shapes: Any = None
    entry_points: Mapping[str, EntryPoint] | None = None
    donate: Mapping[str, str] | None = None
    weights: str | Path | None = None
    masks: str | Path | None = None
    dynamic_batch: bool = False
    batch: int | None = None
    length: int | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        if hasattr(self.args, "__dlpack__"):  # one tensor
            object.__setattr__(self, "args", (self.args,))
        check_examples(self.args, self.kwargs, self.dynamic_shapes)
        check_donate(self.donate)
        for name, expected in _FILES.items():
            if getattr(self, name) is not None:
                require(name, getattr(self, name), (str, os.PathLike), expected)
        for name in ("batch", "length"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.entry_points is None:
            return
        check_entry_points(self.entry_points)
        if self.exampled or self.donate is not None:
            raise InputError(
                "entry_points were given with args, kwargs, dynamic_shapes or donate, which each EntryPoint has of its own; "
                "give them there"
            )

    @property
    def exampled(self) -> bool:
        """Whether there are examples of calls."""
        return bool(len(self.args) or self.kwargs or self.dynamic_shapes is not None)

    def refuse(self, what: str, *names: str) -> None:
        """Raise ModelError where something was given that does not go with a kind of model."""
        given = {
            "examples": self.exampled or self.entry_points is not None,
            "weights": self.weights is not None,
            "masks": self.masks is not None,
            "dynamic_batch": self.dynamic_batch,
            "batch": self.batch is not None or self.length is not None,
            "max_length": self.max_length is not None,
        }
        if any(given[name] for name in names):
            raise ModelError(f"{what}; {_GOES_WITH[next(name for name in names if given[name])]}", usage=True)


_FILES = {
    "weights": "the path of a checkpoint, or call load_state_dict of the module before",
    "masks": "the path of a file of masks, or multiply the weights of the module by them before",
}
_GOES_WITH = {
    "examples": "args, kwargs, dynamic_shapes and entry_points go with a module",
    "weights": "--weights goes with package.module:factory, and weights= with a module",
    "masks": "masks go with a module, a factory and weights, or a folder of transformers",
    "dynamic_batch": "--dynamic-batch goes with package.module:factory and with a folder of transformers",
    "batch": "--batch and --length go with a folder of transformers, whose examples are made here",
    "max_length": "--max-length goes with the folder of a language model",
}


def import_source(model: Any, request: Request) -> ImportedModel:
    """Import a model by the way in that fits what it is.

    Parameters
    ----------
    model
        One of HELP.
    request : Request

    Raises
    ------
    InputError
        Where an argument is of another type, or does not go with another.
    ModelError
        Where the model cannot be read or imported.
    """
    if isinstance(model, (str, Path)):
        return _import_path(model, request)
    if type(model).__module__.startswith("onnx"):
        return _import_onnx(model, request)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return _import_module(model, request)
    if torch is not None and isinstance(model, torch.export.ExportedProgram):
        from tvm_balanced.frontend.exported_program import import_exported_program

        _refuse_for_program(request, "an exported program")
        imported = import_exported_program(model, "an exported program", donate=request.donate)
        imported.recognised.insert(0, "an exported program")
        return imported
    inner = getattr(model, "model", None)
    if torch is not None and isinstance(inner, torch.nn.Module):  # a pipeline of transformers, a Trainer
        raise InputError(
            f"model is {type(model).__name__}, which is called on more than tensors; give its .model, a {type(inner).__name__}, "
            "with examples of what that is called with"
        )
    raise InputError(_not_a_model(model))


def _not_a_model(model: Any) -> str:
    """Return what was given in place of a model, and what to give."""
    from tvm_balanced.runtime.compiled_module import CompiledModule

    if isinstance(model, CompiledModule):
        return "model is compiled already; call it, or give the module that it was compiled from"
    if isinstance(model, type):
        return f"model is the class {model.__name__}; give an instance of it, in eval mode and with its weights"
    if isinstance(model, Mapping):
        return f"model is {type(model).__name__}, as a state dict is; give the module that takes it, after load_state_dict"
    if callable(model):
        return f"model is {type(model).__name__}; give a torch.nn.Module whose forward calls it, or {HELP}"
    return f"model is {type(model).__name__}; give {HELP}"


def _import_path(model: str | Path, request: Request) -> ImportedModel:
    path = check_path(model)
    if is_factory(model):
        return _import_factory(str(model), request)
    if path.suffix == ".onnx":
        return _import_onnx(path, request)
    from tvm_balanced.core.files import is_huggingface
    from tvm_balanced.frontend.huggingface import import_huggingface

    if is_huggingface(path):
        request.refuse(f"{path} is a folder of transformers, which has its weights", "examples", "weights")
        if request.max_length is not None:
            return _import_language_model(path, request, request.max_length)
        return import_huggingface(path, request.batch, request.length, request.dynamic_batch, request.masks, request.donate)
    from tvm_balanced.frontend.pt2 import import_pt2

    _refuse_for_program(request, str(path))
    imported = import_pt2(path, request.donate)
    imported.recognised.insert(0, "an exported program, .pt2")
    return imported


def _import_language_model(path: Path, request: Request, max_length: int) -> ImportedModel:
    """Import the language model of a folder, one that generates; one with an encoder takes source texts of `length` tokens."""
    from tvm_balanced.frontend.causal_lm import import_causal_lm
    from tvm_balanced.frontend.huggingface import LENGTH, has_encoder
    from tvm_balanced.frontend.seq2seq_lm import import_seq2seq_lm

    if request.dynamic_batch or request.donate:
        raise InputError("--max-length gives a model that donates its cache; leave --dynamic-batch and --donate away")
    if has_encoder(path):
        return import_seq2seq_lm(path, request.length or LENGTH, max_length, request.batch or 1, request.masks)
    if request.length is not None:
        raise InputError("--max-length makes prompts of any length; leave --length away")
    return import_causal_lm(path, max_length, request.batch or 1, masks=request.masks)


def is_factory(model: str | Path) -> bool:
    """Whether a text names a factory rather than a file."""
    return isinstance(model, str) and ":" in model and not Path(model).exists() and not model.endswith((".pt2", ".onnx"))


def _refuse_for_program(request: Request, what: str) -> None:
    request.refuse(f"{what} already has its weights, examples and shapes", *_GOES_WITH)


def _import_onnx(model: Any, request: Request) -> ImportedModel:
    from tvm_balanced.frontend.onnx import import_onnx

    request.refuse("an ONNX model has its weights and shapes already", *(name for name in _GOES_WITH if name != "examples"))
    if request.kwargs or request.dynamic_shapes is not None or request.entry_points is not None:
        raise InputError("an ONNX model takes its examples as args, in the order of its inputs; give them there")
    return import_onnx(model, request.args, request.donate)


def _import_factory(name: str, request: Request) -> ImportedModel:
    from tvm_balanced.frontend.factory import load_factory

    request.refuse(f"{name} returns its examples itself", "examples", "batch", "max_length")
    module, examples = load_factory(name)
    entry_points, args, kwargs = (examples, (), None) if isinstance(examples, Mapping) else (None, *split_examples(examples))
    if entry_points is not None and request.dynamic_batch:
        raise InputError(
            f"{name} has entry points {', '.join(entry_points)}; --dynamic-batch goes with a factory that gives example inputs"
        )
    found = _load(module, request)
    imported = _import_module(
        module,
        Request(
            args=args,
            kwargs=kwargs,
            entry_points=entry_points,
            donate=request.donate,
            dynamic_batch=request.dynamic_batch,
        ),
    )
    imported.recognised[1:1] = found
    return imported


def split_examples(examples: Any) -> tuple[tuple[Any, ...], Mapping[str, Any] | None]:
    """Return the examples that a factory gave for one entry point as (args, kwargs)."""
    return (tuple(examples.args), examples.kwargs) if isinstance(examples, EntryPoint) else (tuple(examples), None)


def _import_module(model: Any, request: Request) -> ImportedModel:
    import copy

    import torch

    from tvm_balanced.frontend.entry_points import import_entry_points
    from tvm_balanced.frontend.live_weights import recognised
    from tvm_balanced.frontend.module import batch_dimension, import_module

    request.refuse("a module comes with examples of its own", "batch", "max_length")
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            "the model is TorchScript, which has no layers to find; give the nn.Module that it was made from (its state_dict() "
            "is that of the script), or export that with torch.export.save"
        )
    found = []
    if request.weights is not None or request.masks is not None:
        model = copy.deepcopy(model)  # the caller's stays as it is
        found = _load(model, request)
    if request.entry_points is not None:
        imported = import_entry_points(model, request.entry_points)
    else:
        shapes = batch_dimension(request.args, request.kwargs) if request.dynamic_batch else request.dynamic_shapes
        imported = import_module(model, request.args, request.kwargs, shapes, request.donate)
    imported.recognised = [f"an nn.Module, {type(model).__name__}", *found, *recognised(model), *imported.recognised]
    return imported


def _load(module: Any, request: Request) -> list[str]:
    """Load the weights and masks of a request into a module, and return what was recognised."""
    from tvm_balanced.frontend.masks import apply_masks
    from tvm_balanced.frontend.state_dict import load_weights

    if request.weights is not None:
        return list(load_weights(module, request.weights, request.masks))
    found: list[str] = []
    if request.masks is not None:
        module.load_state_dict(apply_masks(request.masks, module.state_dict(), found))
    return found
