"""`tvm-balanced run`: call an artifact."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvm_balanced.cli.console import out, print_json, print_lines, print_table, step
from tvm_balanced.cli.model import Artifact, Json, Threads, signatures
from tvm_balanced.errors import InputError

if TYPE_CHECKING:
    from tvm_balanced.core.imported_model import TensorSpec


def run(
    artifact: Artifact,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=FILE",
            help="A .npy file for an input; may be given several times. Inputs without one are random.",
        ),
    ] = None,
    entry: Annotated[
        str | None, typer.Option("--entry", metavar="NAME", help="Which of several entry points to call; by default the first.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the outputs, one .npy each.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Size of every dynamic dimension in random inputs.")] = 1,
    repeat: Annotated[int, typer.Option(min=1, help="Number of timed calls.")] = 20,
    threads: Threads = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show where the time goes, layer by layer.")] = False,
    json: Json = False,
) -> None:
    """Run an artifact on .npy files or random inputs, and time it. Needs no PyTorch."""
    import numpy as np

    with step("loading"):
        from tvm_balanced.runtime.load import load

        module = load(artifact, threads)
    function = module[entry or next(iter(module.facts.entry_points))]
    files = _files(inputs or [], function.inputs)
    rng = np.random.default_rng(0)
    arrays = [_read(files[spec.name]) if spec.name in files else _draw(spec, batch, rng) for spec in function.inputs]
    if profile:
        profiled = function.profile(*arrays, rounds=repeat)
        if json:
            print_json(profiled.to_json())
        else:
            print_table(profiled.title, profiled.header, profiled.cells())
        return
    outputs = function.flat(*(array.copy() for array in arrays))  # donated ones hold outputs afterwards
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function.flat(*arrays)
        times.append(time.perf_counter() - start)
    if output is not None:
        _write(output, [spec.name for spec in function.outputs], outputs)
    median = float(np.median(times) * 1e3)
    if json:
        shapes = [list(a.shape) for a in outputs]
        print_json(
            {
                "outputs": shapes,
                "milliseconds": median,
                "threads": module.threads,
                "target": module.facts.target_key,
                "entry_point": function.name,
                "random_inputs": [s.name for s in function.inputs if s.name not in files],
            }
        )
        return
    rows = [
        (spec.name, spec.dtype, "x".join(map(str, a.shape)), f"{np.min(a):.4g}", f"{np.max(a):.4g}")
        for spec, a in zip(function.outputs, outputs, strict=True)
    ]
    print_table(
        f"{artifact}: {median:.3f} ms a call, {module.threads} threads (median of {repeat}), {module.facts.target_key}",
        ("output", "dtype", "shape", "min", "max"),
        rows,
    )
    print_lines(signatures(module.facts.entry_points))
    if output is not None:
        out.print(f"wrote {output}", highlight=False, soft_wrap=True)


def _files(inputs: list[str], specs: "tuple[TensorSpec, ...]") -> dict[str, Path]:
    names = [spec.name for spec in specs]
    files = {}
    for text in inputs:
        name, equals, file = text.partition("=")
        if not equals or name not in names:
            raise typer.BadParameter(f'"{text}" is not NAME=FILE with a name of {", ".join(names)}', param_hint="--input")
        files[name] = Path(file)
    return files


def _read(file: Path) -> Any:
    import numpy as np

    if not file.is_file():
        raise InputError(f"{file} is not a file; give a .npy file that numpy.save wrote")
    try:
        array = np.load(file, allow_pickle=False)
    except Exception as error:  # NumPy parses a header as Python: a damaged one raises what Python's parser does
        raise InputError(
            f"{file} is not a readable .npy file ({type(error).__name__}); write it with numpy.save", usage=False
        ) from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{file} holds several arrays; write each with numpy.save and give it by its input's name")
    return array


def _draw(spec: "TensorSpec", batch: int, rng: Any) -> Any:
    import numpy as np

    from tvm_balanced.core.dtypes import numpy_dtype

    shape = [d if isinstance(d, int) else batch for d in spec.shape]
    if "float" in spec.dtype:
        return rng.standard_normal(shape).astype(numpy_dtype(spec.dtype))
    return np.ones(shape, spec.dtype)


def _write(folder: Path, names: list[str], outputs: tuple[Any, ...]) -> None:
    import numpy as np

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in zip(names, outputs, strict=True):
            np.save(folder / f"{name}.npy", array)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror or error}); choose another place", usage=False) from None
