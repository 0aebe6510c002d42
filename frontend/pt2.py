"""Import a .pt2 file, as written by torch.export.save."""

import contextlib
import importlib.util
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.utils import _pytree as pytree

from tvm_balanced.core.files import new_file
from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.stderr_filter import quiet_torch
from tvm_balanced.core.validation import check_path
from tvm_balanced.errors import ModelError, first_line
from tvm_balanced.frontend.exported_program import import_exported_program
from tvm_balanced.frontend.exporting import EXPORTING
from tvm_balanced.frontend.file_kinds import refusal
from tvm_balanced.frontend.guarded_load import RunsCodeError, load_without_code

PROGRAM = re.compile(r"(^|/)models/[^/]*\.json$")
SPEC_TYPE = re.compile(r'\\"type\\": \\"([\w.]+)\\"')  # in a pytree spec, which is JSON in a text of the program's JSON
OUTPUTS = re.compile(r"transformers\.(modeling_outputs|models\.\w+\.modeling_\w+)")


def import_pt2(path: str | Path, donate: Mapping[str, str] | None = None) -> ImportedModel:
    """Import an exported program from a file; `donate` maps an input to the output that takes its place.

    Raises
    ------
    InputError
        If an input cannot be donated.
    ModelError
        If the file is missing, damaged, or cannot be imported, or if reading it would run code that it holds.
    """
    return import_exported_program(load_pt2(path), str(path), donate=donate)


def load_pt2(path: str | Path) -> torch.export.ExportedProgram:
    """Return the exported program of a file, none of whose code runs; errors as for `import_pt2`."""
    path = check_path(path)
    if not path.is_file():
        raise refusal(path, weights=False) or ModelError(
            f"{path} is not a file; give a .pt2 of torch.export.save, a folder of transformers (nothing is downloaded), or "
            "package.module:factory",
            usage=True,
        )
    unknown: list[str] = []
    try:
        unknown = _register_outputs(path)
        with EXPORTING, quiet_torch():
            return load_without_code(path)
    except RunsCodeError as error:
        raise ModelError(
            f"{path} was not read, because that would run {error}; give a file whose inputs and constants are plain tensors, "
            "or load it yourself with torch.export.load and give the ExportedProgram"
        ) from None
    except Exception as error:  # zipfile, pickle and torch each raise their own
        other = refusal(path, weights=False)
        if other is not None:
            raise other from None
        if unknown:
            raise ModelError(
                f"{path} takes or returns {unknown[0]}, which this process has not loaded; import the module it is in before, "
                "or let the model return a tuple or a dict"
            ) from None
        raise ModelError(
            f"{path} is not a readable .pt2 file ({type(error).__name__}); write it again with torch.export.save"
        ) from error


def _register_outputs(path: Path) -> list[str]:
    """Import the modules of transformers whose classes a program takes or returns; return the classes that stay unknown.

    Such a class tells torch how to take it apart when its module is imported. Nothing else is imported: a file must not choose
    what code runs.
    """
    with zipfile.ZipFile(path) as archive:
        models = [archive.read(name).decode() for name in archive.namelist() if PROGRAM.search(name)]
    names = {name for model in models for name in SPEC_TYPE.findall(model)}
    for name in sorted(names):
        module = name.rpartition(".")[0]
        if OUTPUTS.fullmatch(module) and importlib.util.find_spec("transformers") is not None:
            with contextlib.suppress(ImportError):  # another version of transformers, which has no such module
                importlib.import_module(module)
    return sorted(names - pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE.keys())


def save_pt2(program: torch.export.ExportedProgram, path: str | Path) -> None:
    """Write an exported program; the file appears completely or not at all.

    Raises
    ------
    ModelError
        If the file cannot be written.
    """
    path = check_path(path)
    try:
        with new_file(path) as temporary, quiet_torch():
            torch.export.save(program, temporary)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError if the folder does not exist
        raise ModelError(f"{path} cannot be written ({first_line(error)}); choose another place") from None
