"""The way in for a .pt2 file, as torch.export.save writes it."""

from pathlib import Path

import torch

from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.exported_program import import_exported_program
from tvm_balanced.imported import ImportedModel


def import_pt2(path: str | Path) -> ImportedModel:
    """Import an exported program from a file.

    Raises
    ------
    ModelError
        Where the file is missing, damaged, or cannot be imported.
    """
    return import_exported_program(load_pt2(path), str(path))


def load_pt2(path: str | Path) -> torch.export.ExportedProgram:
    """Return the exported program of a file; errors as for `import_pt2`."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path} is not a file; give a .pt2 that torch.export.save wrote, or package.module:factory")
    try:
        return torch.export.load(path)
    except Exception as error:  # zipfile, pickle and torch each raise their own
        raise ModelError(f"{path} is not a readable .pt2 file ({type(error).__name__}); write it again with torch.export.save") from error
