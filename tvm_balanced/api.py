"""The Python face: what `import tvm_balanced as tb` offers."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tvm_balanced.core.comparison import Comparison
from tvm_balanced.core.entry_point import EntryPoint
from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.report import Report
from tvm_balanced.errors import InputError

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    import torch

    from tvm_balanced.core.loss import Metric
    from tvm_balanced.frontend.pruning.allocate import Allocation
    from tvm_balanced.frontend.pruning.distill import Distillation
    from tvm_balanced.frontend.pruning.report import PruningReport
    from tvm_balanced.frontend.pruning.structures import Structure
    from tvm_balanced.runtime.causal_lm import CausalLM, Seq2SeqLM
    from tvm_balanced.runtime.compiled_module import CompiledModule
    from tvm_balanced.runtime.self_test import SelfTestResult
    from tvm_balanced.tuning.result import TuningResult
    from tvm_balanced.tuning.rpc.tracker import RpcOptions


def prune(
    model: "torch.nn.Module",
    pattern: "str | Structure | Mapping[str, Any]",
    include: str | Sequence[str] = ("*",),
    exclude: str | Sequence[str] = (),
    method: str | None = None,
    calibration: Iterable[Any] | None = None,
    embeddings: bool = False,
    progress: Callable[[str], None] | None = None,
) -> "PruningReport":
    """Prune the layers of a PyTorch module in place; see `frontend.pruning.prune.prune`."""
    from tvm_balanced.frontend.pruning.prune import prune as run

    return run(model, pattern, include, exclude, method, calibration, embeddings, progress)


def distill(
    student: "torch.nn.Module",
    teacher: "torch.nn.Module",
    batches: Iterable[Any],
    minutes: float = 10.0,
    steps: int | None = None,
    learning_rate: float = 3e-4,
    checkpoint: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    precision: str = "float32",
) -> "Distillation":
    """Train a pruned model to do what the dense one does; see `frontend.pruning.distill.distill`."""
    from tvm_balanced.frontend.pruning.distill import distill as run

    return run(student, teacher, batches, minutes, steps, learning_rate, checkpoint, progress, precision)


def allocate(
    model: "torch.nn.Module",
    calibration: Iterable[Any],
    target_speedup: float | None = None,
    sparsity: float | None = None,
    include: str | Sequence[str] = ("*",),
    exclude: str | Sequence[str] = (),
    target: Any = None,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
    loss: str = "output",
) -> "Allocation":
    """Find a pattern for each layer, so that little is lost in a given time; see `frontend.pruning.allocate.allocate`."""
    from tvm_balanced.frontend.pruning.allocate import allocate as run

    return run(model, calibration, target_speedup, sparsity, include, exclude, target, threads, progress, loss)


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
    precision: str = "float32",
    calibration: Any = None,
    max_loss: float = 0.01,
    metric: "Metric | None" = None,
    entry_points: Mapping[str, EntryPoint] | None = None,
    donate: Mapping[str, str] | None = None,
    weights: str | Path | None = None,
    masks: str | Path | None = None,
    race: bool = True,
    fallback: bool = False,
) -> "CompiledModule":
    """Compile a PyTorch or ONNX model; the model itself is not touched.

    Parameters
    ----------
    model : torch.nn.Module, torch.export.ExportedProgram, onnx.ModelProto, str or Path
        A text is "package.module:factory", or the path of a .pt2 file, a .onnx file, or a folder of Hugging Face transformers.
    args, kwargs
        Example arguments of a module, or of an ONNX model: tensors of the shapes and dtypes that calls will have. They are also
        run through both models, to check the result.
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
    precision : str
        What dense layers may be computed in. "int8" rounds x and weight to 8 bits in each layer where the verdict expects that to
        be faster, as long as the model keeps `max_loss`; the layers that lose most for the time they save stay in float32.
        "bfloat16" rounds weights alone, and so does "int4", for layers that wait for memory: groups of 64 nonzeros share a scale.
        With any of them attention of known sizes is computed in bfloat16, if the CPU has AVX-512 BF16 and the budget allows it.
        "auto" takes what is expected to be the fastest within `max_loss`.
    calibration : iterable, optional
        Batches of what the model is called with, as `prune` takes them: the data that losses are measured on. For several entry
        points a mapping of their names to batches. By default the examples.
    max_loss : float
        The budget: the norm of what an output loses on that data, relative to its own norm.
    metric : callable, optional
        What the budget limits instead: (expected, actual) -> loss, 0 where nothing is lost. Both are lists with a
        {output: array} for each call.
    entry_points : mapping of EntryPoint, optional
        Several functions of one module that share its weights, by name, in place of `args`, `kwargs`, `dynamic_shapes` and
        `donate`: {"prefill": EntryPoint(...), "decode": EntryPoint(..., method="decode")}. Call one as `module["decode"](...)`.
    donate : mapping, optional
        Name of an input to the name of the output that takes its place, as a KV cache or the state of an LSTM: after a call
        the caller's own buffer holds the output.
    weights : str or Path, optional
        A checkpoint to load into a copy of the module: .safetensors, a file of torch.save, the index of several, or their folder.
    masks : str or Path, optional
        A file of masks, to multiply the weights of a copy by.
    race : bool
        Whether to time the module in turns with the model on the examples, for at most 3 seconds; the report says what came of
        it. Nothing is timed for another machine or a GPU, nor where the environment says TVM_BALANCED_RACE=0.
    fallback : bool
        Whether operators that PyTorch computes faster are left to it at run time, where the module loses the race. The report
        names them, and such a module needs torch wherever it is loaded. For a PyTorch model with one entry point.

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
    from tvm_balanced.frontend.exporting import EXPORTING
    from tvm_balanced.timing.race import race as run_race

    options = CompileOptions(
        target=target,
        threads=threads,
        tolerance=tolerance,
        kernels=kernels,
        logs=logs,
        copies=copies,
        precision=precision,
        calibration=calibration,
        max_loss=max_loss,
        metric=metric,
    )
    if fallback and not race:
        raise InputError("fallback needs the race with PyTorch; leave race=False out")

    def imported_anew() -> ImportedModel:
        return import_model(model, args, kwargs, dynamic_shapes, entry_points, donate, weights, masks)

    with EXPORTING:  # comparison and race too: an export in another thread changes how modules are called
        if fallback:
            from tvm_balanced.frontend.fallback import compile_with_fallback

            return compile_with_fallback(imported_anew, lambda imported: compile_imported(imported, options))
        imported = imported_anew()
        module = compile_imported(imported, options)
        return run_race(module, imported) if race else module


def compile_causal_lm(
    model: Any,
    *,
    max_length: int,
    batch: int = 1,
    chunk: int | None = None,
    target: Any = None,
    threads: int | None = None,
    tolerance: float | None = None,
    kernels: Mapping[str, str] | None = None,
    logs: str | Path | Literal[False] | None = None,
    precision: str = "float32",
    calibration: Any = None,
    max_loss: float = 0.01,
    race: bool = True,
    fallback: bool = False,
) -> "CausalLM":
    """Compile a causal language model of transformers to one that generates text, its keys and values cached.

    Parameters
    ----------
    model : transformers.PreTrainedModel, str or Path
        The model, which is not touched, or the folder of one.
    max_length : int
        Slots of the cache: the most tokens of a prompt and its answer.
    batch : int
        The most prompts of a call.
    chunk : int, optional
        Tokens of a prompt that are computed at once; 64, or max_length if that is less.
    target, threads, tolerance, kernels, logs, precision, max_loss, race
        As for `compile`.
    calibration : mapping, optional
        Batches of calls by entry point, {"prefill": [...], "decode": [...]}; by default losses are measured on drawn tokens.
    fallback : bool
        Refused: its steps write to caches that are donated, which no operator of PyTorch takes part in.

    Returns
    -------
    CausalLM
        With `generate`; `save` and `load` keep it one.

    Raises
    ------
    TvmBalancedError
        As `compile`; ModelError where the model keeps another kind of cache.
    """
    from tvm_balanced.compiler.compile import CompileOptions
    from tvm_balanced.frontend.causal_lm import import_causal_lm

    options = CompileOptions(
        target=target,
        threads=threads,
        tolerance=tolerance,
        kernels=kernels,
        logs=logs,
        precision=precision,
        calibration=calibration,
        max_loss=max_loss,
    )
    _refuse_fallback(fallback)
    module: CausalLM = _compiled_lm(lambda: import_causal_lm(model, max_length, batch, chunk), options, race)
    return module


def compile_seq2seq_lm(
    model: Any,
    *,
    max_source: int,
    max_length: int,
    batch: int = 1,
    target: Any = None,
    threads: int | None = None,
    tolerance: float | None = None,
    kernels: Mapping[str, str] | None = None,
    logs: str | Path | Literal[False] | None = None,
    precision: str = "float32",
    calibration: Any = None,
    max_loss: float = 0.01,
    race: bool = True,
    fallback: bool = False,
) -> "Seq2SeqLM":
    """Compile a language model with an encoder, as T5, to one that generates text, its keys and values cached.

    Parameters
    ----------
    model : transformers.PreTrainedModel, str or Path
        The model, which is not touched, or the folder of one.
    max_source : int
        The most tokens of a source text.
    max_length : int
        Slots of the decoder's cache: the most tokens of an answer.
    batch : int
        The most source texts of a call.
    target, threads, tolerance, kernels, logs, precision, calibration, max_loss, race, fallback
        As for `compile_causal_lm`; the entry points are encode and decode.

    Returns
    -------
    Seq2SeqLM
        With `generate`; `save` and `load` keep it one.

    Raises
    ------
    TvmBalancedError
        As `compile`; ModelError where the model keeps another kind of cache.
    """
    from tvm_balanced.compiler.compile import CompileOptions
    from tvm_balanced.frontend.seq2seq_lm import import_seq2seq_lm

    options = CompileOptions(
        target=target,
        threads=threads,
        tolerance=tolerance,
        kernels=kernels,
        logs=logs,
        precision=precision,
        calibration=calibration,
        max_loss=max_loss,
    )
    _refuse_fallback(fallback)
    module: Seq2SeqLM = _compiled_lm(lambda: import_seq2seq_lm(model, max_source, max_length, batch), options, race)
    return module


def _refuse_fallback(fallback: bool) -> None:
    if fallback:
        raise InputError(
            "fallback is for a model with one entry point, and a language model has two, which write to caches in place; leave "
            "fallback out, or compile the model itself with example tokens and use_cache=False"
        )


def _compiled_lm(imported: Callable[[], ImportedModel], options: Any, race: bool) -> Any:
    """Import and compile a language model; its class follows from how it generates."""
    from tvm_balanced.compiler.compile import compile_imported
    from tvm_balanced.frontend.exporting import EXPORTING
    from tvm_balanced.timing.race import race as run_race

    with EXPORTING:
        model = imported()
        module = compile_imported(model, options)
        return run_race(module, model) if race else module


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
    precision: str = "float32",
    entry_points: Mapping[str, EntryPoint] | None = None,
    weights: str | Path | None = None,
    masks: str | Path | None = None,
) -> Report:
    """Return what `compile` would do with each operator that has weights, and why; parameters and errors as there.

    With a precision that rounds, it is what `compile` would do if every layer kept `max_loss`: nothing is run.
    """
    from tvm_balanced.compiler.compile import CompileOptions, inspect_imported
    from tvm_balanced.frontend.exporting import EXPORTING

    options = CompileOptions(target=target, threads=threads, kernels=kernels, logs=logs, copies=copies, precision=precision)
    with EXPORTING:
        return inspect_imported(import_model(model, args, kwargs, dynamic_shapes, entry_points, None, weights, masks), options)


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
    precision: str = "float32",
    entry_points: Mapping[str, EntryPoint] | None = None,
    weights: str | Path | None = None,
    masks: str | Path | None = None,
) -> "TuningResult":
    """Search the kernels of a model for better schedules; `compile` uses what is found.

    Ends when the budget is spent, when nothing improves any more, or after Ctrl-C; what was found is in the log.

    Parameters
    ----------
    model, args, kwargs, target, dynamic_shapes, threads, kernels, copies, entry_points, weights, masks
        As for `compile`.
    precision : str
        Tune the kernels that `compile` would use with it if every layer kept its budget.
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
        "model", "transfer", "replay", "exhaustive" or "evolutionary"; docs/measurements/tuning.md compares them.
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
        precision=precision,
    )
    imported = import_model(model, args, kwargs, dynamic_shapes, entry_points, None, weights, masks)
    return tune_imported(imported, options, started=started)


def compare(
    module: "CompiledModule",
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


def save(modules: "CompiledModule | Sequence[CompiledModule]", path: str | Path, cc: str | None = None, sign: Any = None) -> None:
    """Write a compiled module, or several as variants of one artifact, of which `load` takes the first that runs where it is.

    For instance one for "cpu/x86-64-v4" and one for "cpu/x86-64-v3"; see `artifact.save`.
    """
    from tvm_balanced.runtime import artifact

    artifact.save(modules, path, cc, sign)


def load(
    path: str | Path,
    threads: int | None = None,
    verify: bool = True,
    weights: Literal["copied", "shared"] = "copied",
    verify_key: Any = None,
    cuda_graph: bool = False,
) -> "CompiledModule":
    """Load what `save` wrote; see `runtime.load.load`."""
    from tvm_balanced.runtime.load import load as run

    return run(path, threads, verify, weights, verify_key, cuda_graph)


def self_test(path: str | Path, threads: int | None = None, verify_key: Any = None) -> "SelfTestResult":
    """Check an artifact where it lands: files, machine, numbers, and the time of a call; see `runtime.self_test.self_test`."""
    from tvm_balanced.runtime.self_test import self_test as run

    return run(path, threads, verify_key)


def import_model(
    model: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    entry_points: Mapping[str, EntryPoint] | None = None,
    donate: Mapping[str, str] | None = None,
    weights: str | Path | None = None,
    masks: str | Path | None = None,
) -> ImportedModel:
    """Import a model by whichever way in fits what it is; parameters as for `compile`, errors as for `sources.import_source`."""
    from tvm_balanced.frontend.sources import Request, import_source

    request = Request(
        args=args,
        kwargs=kwargs,
        dynamic_shapes=dynamic_shapes,
        entry_points=entry_points,
        donate=donate,
        weights=weights,
        masks=masks,
    )
    imported = import_source(model, request)
    for phrase in imported.recognised:
        log.info("recognised %s", phrase)
    return imported
