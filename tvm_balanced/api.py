"""The Python face: what `import tvm_balanced as tb` offers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_balanced.arguments import check_examples
from tvm_balanced.compiled_module import CompiledModule
from tvm_balanced.imported import ImportedModel
from tvm_balanced.pattern import BalancedPattern
from tvm_balanced.report import Report

if TYPE_CHECKING:
    import torch

    from tvm_balanced.frontend.prune import PruningReport


def prune(
    model: "torch.nn.Module",
    pattern: str | BalancedPattern,
    include: str | Sequence[str] = ("*",),
    exclude: str | Sequence[str] = (),
) -> "PruningReport":
    """Prune the nn.Linear layers of a PyTorch module in place; see `frontend.prune.prune`."""
    from tvm_balanced.frontend.prune import prune as run

    return run(model, pattern, include, exclude)


def compile(
    model: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: Any = None,
    dynamic_shapes: Any = None,
    threads: int | None = None,
    tolerance: float | None = None,
    kernels: Mapping[str, str] | None = None,
) -> CompiledModule:
    """Compile a PyTorch model; the model itself is not touched.

    Parameters
    ----------
    model : torch.nn.Module, torch.export.ExportedProgram, or path of a .pt2 file
    args, kwargs
        Example arguments of a module: tensors of the shapes and dtypes that calls will have. They are also run through
        both models, to check the result.
    target : optional
        "cpu" (the default: this machine), "cpu/NAME" for another CPU by LLVM's name, or a TVM target.
    dynamic_shapes : optional
        As torch.export.export takes it, for a batch size that changes from call to call. A call outside the range of a Dim
        raises InputError.
    threads : int, optional
        Threads of a call, all cores by default.
    tolerance : float, optional
        Largest allowed difference to the original model, relative to the largest output (or 1 if that is less); 1e-4 for
        float32 outputs.
    kernels : mapping, optional
        Layer name pattern to the kernel it must use, for instance {"encoder.*": "cpu_portable"}.

    Returns
    -------
    CompiledModule
        Independent of the model: training the model further does not change it.

    Raises
    ------
    TvmBalancedError
        Of a kind that says whose fault it is; see `compiler.compile_imported` and `frontend.module.import_module`.
    """
    from tvm_balanced.compiler import Options, compile_imported

    options = Options(target, threads, tolerance, kernels)
    return compile_imported(import_model(model, args, kwargs, dynamic_shapes), options)


def inspect(
    model: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: Any = None,
    dynamic_shapes: Any = None,
    threads: int | None = None,
    kernels: Mapping[str, str] | None = None,
) -> Report:
    """Return what `compile` would do with each dense layer, and why; parameters and errors as there."""
    from tvm_balanced.compiler import Options, inspect_imported

    options = Options(target, threads, None, kernels)
    return inspect_imported(import_model(model, args, kwargs, dynamic_shapes), options)


def load(path: str | Path, threads: int | None = None, verify: bool = True) -> CompiledModule:
    """Load what `CompiledModule.save` wrote; see `artifact.load`."""
    from tvm_balanced import artifact

    return artifact.load(path, threads, verify)


def import_model(
    model: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> ImportedModel:
    """Import a model by whichever way in fits what it is; parameters as for `compile`.

    Raises
    ------
    InputError
        Where an argument is of another type.
    ModelError
        Where it cannot be imported.
    """
    import torch

    from tvm_balanced.errors import InputError, ModelError
    from tvm_balanced.frontend.exported_program import import_exported_program
    from tvm_balanced.frontend.module import import_module
    from tvm_balanced.frontend.pt2 import import_pt2

    args = (args,) if isinstance(args, torch.Tensor) else args
    check_examples(args, kwargs, dynamic_shapes)
    if isinstance(model, torch.nn.Module):
        return import_module(model, args, kwargs, dynamic_shapes)
    if not isinstance(model, (str, Path, torch.export.ExportedProgram)):
        raise InputError(
            f"model is {type(model).__name__}; give a torch.nn.Module, an ExportedProgram or the path of a .pt2 file"
        )
    if len(args) or kwargs or dynamic_shapes is not None:
        raise ModelError(
            "an exported program has its examples and shapes already; args, kwargs and dynamic_shapes go with a module",
            usage=True,
        )
    if isinstance(model, (str, Path)):
        return import_pt2(model)
    return import_exported_program(model, "an exported program")
