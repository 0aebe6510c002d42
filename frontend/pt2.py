"""Import a .pt2 file, as written by torch.export.save."""

import os
from pathlib import Path

import torch

from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.stderr_filter import quiet_torch
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.exported_program import import_exported_program


def import_pt2(path: str | Path) -> ImportedModel:
    """Import an exported program from a file.

    Raises
    ------
    ModelError
        If the file is missing, damaged, or cannot be imported.
    """
    return import_exported_program(load_pt2(path), str(path))


def load_pt2(path: str | Path) -> torch.export.ExportedProgram:
    """Return the exported program of a file; errors as for `import_pt2`."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path} is not a file; give a .pt2 that torch.export.save wrote, or package.module:factory", usage=True)
    try:
        with quiet_torch():
            return torch.export.load(path)
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
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.pt2")
    try:
        torch.export.save(program, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError if the folder does not exist
        raise ModelError(f"{path} cannot be written ({str(error).splitlines()[0]}); choose another place") from None
    finally:
        temporary.unlink(missing_ok=True)
