"""Import a .pt2 file, as written by torch.export.save."""

from collections.abc import Mapping
from pathlib import Path

import torch

from tvm_balanced.core.files import new_file
from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.stderr_filter import quiet_torch
from tvm_balanced.core.validation import check_path
from tvm_balanced.errors import ModelError, first_line
from tvm_balanced.frontend.exported_program import import_exported_program
from tvm_balanced.frontend.guarded_load import RunsCodeError, load_without_code
from tvm_balanced.frontend.module import EXPORTING


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
        raise ModelError(f"{path} is not a file; give a .pt2 that torch.export.save wrote, or package.module:factory", usage=True)
    try:
        with EXPORTING, quiet_torch():
            return load_without_code(path)
    except RunsCodeError as error:
        raise ModelError(
            f"{path} was not read, because that would run {error}; give a file whose inputs and constants are plain tensors, "
            "or load it yourself with torch.export.load and give the ExportedProgram"
        ) from None
    except Exception as error:  # zipfile, pickle and torch each raise their own
        raise ModelError(
            f"{path} is not a readable .pt2 file ({type(error).__name__}); write it again with torch.export.save"
        ) from error


def save_pt2(program: torch.export.ExportedProgram, path: str | Path) -> None:
    """Write an exported program; the file appears completely or not at all.

    Raises
    ------
    ModelError
        If the file cannot be written.
    """
    path = check_path(path)
    try:
        with new_file(path) as temporary:
            torch.export.save(program, temporary)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError if the folder does not exist
        raise ModelError(f"{path} cannot be written ({first_line(error)}); choose another place") from None
