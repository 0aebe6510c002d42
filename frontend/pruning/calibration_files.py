"""Calibration data of the command line: a callable that yields batches, a .npz file, or text for a folder of transformers."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tvm_balanced.errors import InputError, first_line
from tvm_balanced.frontend.factory import called

BATCH = 32  # samples of a file in a batch


def load_batches(source: str, folder: str | None = None, shape: tuple[int, int] | None = None) -> list[Any]:
    """Return batches of what a model is called with.

    Parameters
    ----------
    source : str
        "package.module:callable", which returns or yields batches; or the path of a .npz file. The arrays of a file have samples
        in their first dimension. They are arguments by their names, or in order if they are called arr_0, arr_1 and so on, as
        `np.savez("calibration.npz", ids, mask)` calls them. Or the path of a .txt file, a sample in each line.
    folder : str, optional
        Of transformers, whose tokenizer reads a .txt file; `shape` is that of `text_batches`.

    Raises
    ------
    InputError
        If a file cannot be read, its arrays differ in length, or a text is for a model that is no folder.
    ModelError
        If the callable is missing or fails, or the folder has no tokenizer.
    """
    if source.endswith(".txt"):
        if folder is None:
            raise InputError(
                f"{source} is text, which the tokenizer of a folder of transformers reads; give that folder as the model, or "
                "tokens as a .npz file"
            )
        from tvm_balanced.frontend.pruning.texts import text_batches

        return list(text_batches(source, folder, shape))
    if source.endswith(".npz"):
        return _from_arrays(Path(source))
    made = called(source, "batches of what the model is called with")
    if not isinstance(made, Iterable) or isinstance(made, (torch.Tensor, str)):
        raise InputError(
            f"{source} returned {type(made).__name__}; let it return or yield batches of what the model is called with"
        )
    return list(made)


def _from_arrays(path: Path) -> list[Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is no .npz file of numbers ({first_line(error)}); write it with np.savez") from None
    lengths = {name: len(array) if array.dim() else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise InputError(f"the arrays of {path} have {lengths or 'no'} samples; give each the same number, one or more")
    samples = next(iter(lengths.values()))
    starts = range(0, samples, BATCH)
    if all(name == f"arr_{at}" for at, name in enumerate(arrays)):
        return [tuple(array[start : start + BATCH] for array in arrays.values()) for start in starts]
    return [{name: array[start : start + BATCH] for name, array in arrays.items()} for start in starts]
