"""The arguments MODEL (a file, a folder of transformers, or package.module:factory) and FACTORY (only the latter)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvm_balanced.cli.console import err
from tvm_balanced.core.files import is_huggingface, require_free, require_writable
from tvm_balanced.errors import InputError

if TYPE_CHECKING:
    from tvm_balanced.core.imported_model import ImportedModel

TARGET_HELP = (
    "cpu is this machine, cpu/NAME another CPU by LLVM's name; cuda is this machine's GPU, cuda/NAME another; or a TVM target "
    "as JSON."
)

Artifact = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A directory that compile wrote.")]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A .pt2 file of torch.export.save, a .onnx file, a folder of Hugging Face transformers, or package.module:factory, "
        "which returns (module, example inputs), (module, example inputs, keyword inputs) or (module, entry points).",
    ),
]
Factory = Annotated[
    str,
    typer.Argument(
        metavar="FACTORY",
        help="package.module:factory, a callable that returns (module, example inputs); or a folder of transformers.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="Weights for a factory's module: .safetensors, a state dict from torch.save, the index of several, or their folder.",
    ),
]
Masks = Annotated[
    Path | None,
    typer.Option("--masks", help="Masks of ones and zeros, by which weights are multiplied: .safetensors, or of torch.save."),
]
DynamicBatch = Annotated[
    bool,
    typer.Option(
        "--dynamic-batch",
        help="Let the first dimension of every input vary from call to call (a factory's module, a folder of transformers).",
    ),
]
Batch = Annotated[
    int | None, typer.Option("--batch", min=1, help="Rows of the inputs of a folder of transformers; by default 1.")
]
Length = Annotated[
    int | None,
    typer.Option("--length", min=1, help="Tokens of a row of a folder of transformers; 128, or as many as the model takes."),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        "--max-length",
        min=1,
        help="Slots of the cache of a folder's language model, which then generates text; --batch prompts at once. With an "
        "encoder, --length is that of a source text.",
    ),
]
Target = Annotated[
    str,
    typer.Option("--target", help=TARGET_HELP),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of a call; all cores by default.")]
Kernel = Annotated[
    list[str] | None,
    typer.Option(
        "--kernel",
        metavar="LAYERS=KERNEL",
        help='Force a kernel on layers, for instance "encoder.*=cpu_portable"; may be given several times.',
    ),
]
Copies = Annotated[
    int | None,
    typer.Option(
        "--copies",
        min=1,
        help="Maximum number of kernels, each with a copy of the weight, for a layer whose number of rows varies between calls.",
    ),
]
Logs = Annotated[
    Path | None,
    typer.Option("--logs", help="Folder of tuning logs that precede the shipped ones; by default the folder that tune writes."),
]
NoLogs = Annotated[bool, typer.Option("--no-logs", help="Use the default schedules of all kernels.")]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        help="Data to prune by, or to measure losses on: package.module:callable that yields batches of what the model is called "
        "with; a .npz file with an array of samples for each argument; or, for a folder of transformers, a .txt file with a "
        "sample in each line.",
    ),
]
Precision = Annotated[
    str, typer.Option("--precision", help="What dense layers may be computed in: float32, bfloat16, int8, int4, or auto.")
]
WRITABLE = (".pt2", ".safetensors")
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help="A .pt2 file (model and weights), .safetensors (weights alone), or, of a folder of transformers, a new folder.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def require_factory(model: str, why: str) -> None:
    """Raise BadParameter, with the reason, if FACTORY is a file, or no name of a factory."""
    if folder_of(model) is not None:
        return
    if model.endswith(".pt2"):
        raise typer.BadParameter(f"{model} is an exported program; {why}: give package.module:factory", param_hint="FACTORY")
    if ":" not in model:
        raise typer.BadParameter(
            f'"{model}" is not of the form package.module:factory, nor a folder of transformers', param_hint="FACTORY"
        )


def folder_of(model: str) -> str | None:
    """Return what MODEL names if that is a folder with the config.json of transformers, else None."""
    return model if is_huggingface(Path(model)) else None


def load_module(model: str, weights: Path | None, batch: int = 1) -> tuple[Any, Any]:
    """Return a factory's, or a folder's, (torch module, example arguments or entry points), with `weights` loaded.

    `batch` is the rows of a folder's examples. Raises ModelError.
    """
    from tvm_balanced.frontend.factory import load_factory
    from tvm_balanced.frontend.state_dict import load_weights

    module, args = load_factory(model) if folder_of(model) is None else _of_folder(model, batch)
    if weights is not None:
        show_recognised(str(weights), load_weights(module, weights))
    return module, args


def _of_folder(model: str, batch: int) -> tuple[Any, Any]:
    from tvm_balanced.core.entry_point import EntryPoint
    from tvm_balanced.frontend.huggingface import examples_of, load_huggingface

    module, found = load_huggingface(model)
    examples, said = examples_of(module, Path(model), batch)
    show_recognised(model, [*found, said])
    return module, EntryPoint((), examples)


def show_recognised(model: str, phrases: Sequence[str]) -> None:
    """Say on stderr what a way in understood."""
    for phrase in phrases:
        err.print(f"{model}: {phrase}", markup=False, highlight=False, soft_wrap=True)


def load_batches(source: str, model: str, shape: tuple[int, int] | None = None) -> list[Any]:
    """Return batches of what MODEL is called with, `shape` where it takes no other; raises InputError or ModelError."""
    from tvm_balanced.frontend.pruning.calibration_files import load_batches as load

    return load(source, folder_of(model), shape)


def check_output(output: Path, model: str) -> None:
    """Raise BadParameter unless MODEL, pruned, has a form that `output` names; raises ArtifactError if the place is taken, or
    cannot be written.
    """
    if output.suffix in WRITABLE:
        require_writable(output)
        return
    if folder_of(model) is None:
        raise typer.BadParameter(f"{output} must end in .pt2 or .safetensors", param_hint="--output")
    require_free(output)
    require_writable(output, folder=True)


def write_model(model: str, module: Any, args: Any, output: Path, dynamic_batch: bool) -> None:
    """Write a module, whose example arguments are `args`, as a .pt2 file, its weights alone, or a folder of transformers."""
    if output.suffix not in WRITABLE:
        from tvm_balanced.frontend.huggingface import save_huggingface

        save_huggingface(module, model, output)
        return
    if output.suffix == ".safetensors":
        from tvm_balanced.frontend.state_dict import save_weights

        save_weights(module, output)
        return
    from tvm_balanced.frontend.module import batch_dimension, export, plain_copy
    from tvm_balanced.frontend.pt2 import save_pt2

    args, kwargs = one_entry(model, args, "a .pt2 file")
    save_pt2(export(plain_copy(module), args, kwargs, batch_dimension(args, kwargs) if dynamic_batch else None), output)


def import_model(
    model: str,
    weights: Path | None = None,
    dynamic_batch: bool = False,
    masks: Path | None = None,
    batch: int | None = None,
    length: int | None = None,
    max_length: int | None = None,
) -> "ImportedModel":
    """Import MODEL and say what was recognised; raises ModelError, also if an option does not apply to what it is."""
    from tvm_balanced.frontend.sources import Request, import_source

    request = Request(
        weights=weights, dynamic_batch=dynamic_batch, masks=masks, batch=batch, length=length, max_length=max_length
    )
    imported = import_source(model, request)
    show_recognised(model, imported.recognised)
    return imported


def one_entry(model: str, args: Any, what: str) -> tuple[tuple[Any, ...], Mapping[str, Any] | None]:
    """Return a factory's example (arguments, keyword arguments); raises InputError if it returns entry points, which
    `what` does not support.
    """
    from tvm_balanced.frontend.sources import split_examples

    if isinstance(args, Mapping):
        raise InputError(f"{model} has entry points {', '.join(args)}; {what} goes with a factory that gives example inputs")
    return split_examples(args)


def forced(kernel: list[str] | None) -> dict[str, str]:
    """Return --kernel options as a mapping; raises BadParameter if one has no "="."""
    pairs = [text.partition("=") for text in kernel or []]
    for layers, equals, name in pairs:
        if not (layers and equals and name):
            raise typer.BadParameter(f'"{layers}" is not of the form LAYERS=KERNEL', param_hint="--kernel")
    return {layers: name for layers, _, name in pairs}


def signatures(entry_points: Mapping[str, Any]) -> list[str]:
    """Return the inputs and outputs of each entry point, one line each, if there are several.

    Parameters
    ----------
    entry_points : mapping of ImportedFunction or EntryPointSpec
    """
    from tvm_balanced.core.imported_model import signature

    if len(entry_points) == 1:
        return []
    return [f"{name}: {signature(entry.inputs, entry.outputs)}" for name, entry in entry_points.items()]
