"""The Python face: what `import tvm_balanced as tb` offers."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tvm_balanced.core.comparison import Comparison
from tvm_balanced.core.entry_point import EntryPoint, check_entry_points
from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.report import Report
from tvm_balanced.core.validation import check_donate, check_examples
from tvm_balanced.runtime.compiled_module import CompiledModule

if TYPE_CHECKING:
    import torch

    from tvm_balanced.frontend.pruning.magnitude import PruningReport
    from tvm_balanced.tuning.result import TuningResult
    from tvm_balanced.tuning.rpc.tracker import RpcOptions


def prune(
    model: "torch.nn.Module",
    pattern: str | BalancedPattern,
    include: str | Sequence[str] = ("*",),
    exclude: str | Sequence[str] = (),
) -> "PruningReport":
    """Prune the nn.Linear layers of a PyTorch module in place; see `frontend.prune.prune`."""
    from tvm_balanced.frontend.pruning.magnitude import prune as run

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
    logs: str | Path | Literal[False] | None = None,
    copies: int | None = None,
    entry_points: Mapping[str, EntryPoint] | None = None,
    donate: Mapping[str, str] | None = None,
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
        Largest allowed difference to the original model, relative to the largest output (or 1 if that is less); by default
        what rounding explains, from the dtypes and the depth of the model.
    kernels : mapping, optional
        Layer name pattern to the kernel it must use, for instance {"encoder.*": "cpu_portable"}.
    logs : optional
        Folder of tuning logs, as `tune` wrote it: its winners are used before the shipped ones. By default the folder that
        `tune` writes by default; False leaves all kernels at their defaults.
    copies : int, optional
        The most kernels that may share a layer whose rows are known only at the call: each serves the batch sizes at which it
        is the fastest, on its own copy of the weight. 3 by default; 1 spares memory.
    entry_points : mapping of EntryPoint, optional
        Several functions of one module that share its weights, by name, in place of `args`, `kwargs`, `dynamic_shapes` and
        `donate`: {"prefill": EntryPoint(...), "decode": EntryPoint(..., method="decode")}. Call one as `module["decode"](...)`.
    donate : mapping, optional
        Name of an input to the name of the output that takes its place, as a KV cache or the state of an LSTM: after a call
        the caller's own buffer holds the output.

    Returns
    -------
    CompiledModule
        Independent of the model: training the model further does not change it.

    Raises
    ------
    TvmBalancedError
        Of a kind that says whose fault it is; see `compiler.compile_imported` and `frontend.module.import_module`.
    """
    from tvm_balanced.compiler.compile import CompileOptions, compile_imported
    from tvm_balanced.frontend.module import EXPORTING

    options = CompileOptions(target=target, threads=threads, tolerance=tolerance, kernels=kernels, logs=logs, copies=copies)
    with EXPORTING:  # the comparison with the model too: an export in another thread changes how modules are called
        return compile_imported(import_model(model, args, kwargs, dynamic_shapes, entry_points, donate), options)


def inspect(
    model: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: Any = None,
    dynamic_shapes: Any = None,
    threads: int | None = None,
    kernels: Mapping[str, str] | None = None,
    logs: str | Path | Literal[False] | None = None,
    copies: int | None = None,
    entry_points: Mapping[str, EntryPoint] | None = None,
) -> Report:
    """Return what `compile` would do with each operator that has weights, and why; parameters and errors as there."""
    from tvm_balanced.compiler.compile import CompileOptions, inspect_imported
    from tvm_balanced.frontend.module import EXPORTING

    options = CompileOptions(target=target, threads=threads, kernels=kernels, logs=logs, copies=copies)
    with EXPORTING:
        return inspect_imported(import_model(model, args, kwargs, dynamic_shapes, entry_points), options)


def tune(
    model: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: Any = None,
    dynamic_shapes: Any = None,
    threads: int | None = None,
    kernels: Mapping[str, str] | None = None,
    work_dir: str | Path | None = None,
    minutes: float | None = None,
    trials: int | None = None,
    per_kernel: int | None = None,
    resume: bool = False,
    seed: int = 0,
    strategy: str = "model",
    shard: tuple[int, int] = (1, 1),
    rpc: "RpcOptions | None" = None,
    copies: int | None = None,
    entry_points: Mapping[str, EntryPoint] | None = None,
) -> "TuningResult":
    """Search the kernels of a model for better schedules; `compile` uses what is found.

    Ends when the budget is spent, when nothing improves any more, or after Ctrl-C; what was found is in the log.

    Parameters
    ----------
    model, args, kwargs, target, dynamic_shapes, threads, kernels, copies, entry_points
        As for `compile`.
    work_dir : optional
        Folder of the logs, one folder for each target key; give it to `compile` as `logs`. By default this user's, where
        `compile` looks.
    minutes, trials, per_kernel : optional
        The budget: minutes of this call, candidates in all, candidates of each kernel. Whichever comes first counts.
    resume : bool
        Go on with the last run in the log; what it measured counts.
    seed : int
        The same seed and log give the same candidates.
    strategy : str
        "model", "replay", "exhaustive" or "evolutionary"; docs/tuning.md compares them.
    shard : (int, int)
        (i, n): tune the i-th of n shares of the kernels, for batch systems; `tvm-balanced logs merge` joins their logs.
    rpc : RpcOptions, optional
        Measure on the servers of an RPC tracker: `tb.RpcOptions.parse("HOST:PORT", key)`.

    Returns
    -------
    TuningResult
        What was found for each kernel, and why the run ended.

    Raises
    ------
    TvmBalancedError
        As `compile`; TuningError where the log or the servers cannot be used.
    """
    started = time.monotonic()
    from tvm_balanced.tuning.tune import TuneOptions, tune_imported

    options = TuneOptions(
        target=target,
        work_dir=work_dir,
        minutes=minutes,
        trials=trials,
        per_kernel=per_kernel,
        resume=resume,
        seed=seed,
        strategy=strategy,
        threads=threads,
        kernels=kernels,
        shard=shard,
        rpc=rpc,
        copies=copies,
    )
    return tune_imported(import_model(model, args, kwargs, dynamic_shapes, entry_points), options, started=started)


def compare(
    module: CompiledModule,
    model: "torch.nn.Module",
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    tolerance: float | None = None,
) -> Comparison:
    """Run a compiled module and the model that it was compiled from on the same inputs, and compare their outputs.

    Parameters
    ----------
    module : CompiledModule
    model : torch.nn.Module
        Runs in eval mode, without gradients; its mode is as before afterwards.
    args, kwargs
        Inputs, as the model takes them.
    tolerance : float, optional
        As for `compile`; by default by the dtype of each output.

    Returns
    -------
    Comparison
        `ok`, `error` and the outputs one by one; prints as a table.

    Raises
    ------
    TvmBalancedError
        As calling the module.
    """
    from tvm_balanced.frontend.compare import compare as run

    return run(module, model, args, kwargs, tolerance)


def save(modules: CompiledModule | Sequence[CompiledModule], path: str | Path, cc: str | None = None) -> None:
    """Write a compiled module, or several as variants of one artifact, of which `load` takes the first that runs where it is.

    For instance one for "cpu/x86-64-v4" and one for "cpu/x86-64-v3"; see `artifact.save`.
    """
    from tvm_balanced.runtime import artifact

    artifact.save(modules, path, cc)


def load(
    path: str | Path, threads: int | None = None, verify: bool = True, weights: Literal["copied", "shared"] = "copied"
) -> CompiledModule:
    """Load what `save` wrote; see `runtime.load.load`."""
    from tvm_balanced.runtime.load import load as run

    return run(path, threads, verify, weights)


def import_model(
    model: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    entry_points: Mapping[str, EntryPoint] | None = None,
    donate: Mapping[str, str] | None = None,
) -> ImportedModel:
    """Import a model by whichever way in fits what it is; parameters as for `compile`.

    Raises
    ------
    InputError
        Where an argument is of another type, or does not go with another.
    ModelError
        Where it cannot be imported.
    """
    import torch

    from tvm_balanced.errors import InputError, ModelError
    from tvm_balanced.frontend.entry_points import import_entry_points
    from tvm_balanced.frontend.exported_program import import_exported_program
    from tvm_balanced.frontend.module import import_module
    from tvm_balanced.frontend.pt2 import import_pt2

    args = (args,) if isinstance(args, torch.Tensor) else args
    check_examples(args, kwargs, dynamic_shapes)
    check_donate(donate)
    exampled = bool(len(args) or kwargs or dynamic_shapes is not None)
    if entry_points is not None:
        check_entry_points(entry_points)
        if exampled or donate is not None:
            raise InputError(
                "entry_points were given with args, kwargs, dynamic_shapes or donate, which each EntryPoint has of its own; "
                "give them there"
            )
    if isinstance(model, torch.nn.Module):
        if entry_points is not None:
            return import_entry_points(model, entry_points)
        return import_module(model, args, kwargs, dynamic_shapes, donate)
    if not isinstance(model, (str, Path, torch.export.ExportedProgram)):
        raise InputError(
            f"model is {type(model).__name__}; give a torch.nn.Module, an ExportedProgram or the path of a .pt2 file"
        )
    if exampled or entry_points is not None:
        raise ModelError(
            "an exported program has its examples and shapes already; args, kwargs, dynamic_shapes and entry_points go with a "
            "module",
            usage=True,
        )
    if isinstance(model, (str, Path)):
        return import_pt2(model, donate)
    return import_exported_program(model, "an exported program", donate=donate)
