"""Batches of tokens from a text file, made by the tokenizer of a folder of Hugging Face transformers: a line is a sample."""

import inspect
from pathlib import Path
from typing import Any

from tvm_balanced.core.stderr_filter import quiet_torch
from tvm_balanced.errors import InputError, ModelError, first_line
from tvm_balanced.frontend.huggingface import LENGTH, class_of_folder

BATCH = 32  # lines


def text_batches(path: str | Path, folder: str | Path, shape: tuple[int, int] | None = None) -> list[dict[str, Any]]:
    """Return batches of keyword arguments of a folder's model, lines of similar length together.

    Parameters
    ----------
    path : str or Path
        A text file in UTF-8. Empty lines are left out, and of a long line what is behind 128 tokens.
    folder : str or Path
        Of the model, with its tokenizer.
    shape : (int, int), optional
        Lines of each batch, and tokens to which all are padded: for a model that takes no others. By default 32 lines, padded to
        the longest of them.

    Raises
    ------
    InputError
        If the file cannot be read, or has too few lines.
    ModelError
        If the folder has no tokenizer that fits, or its model does not take text.
    """
    lines, rows = _lines(Path(path)), shape[0] if shape else BATCH
    if shape and len(lines) < rows:
        raise InputError(f"{path} has {len(lines)} lines with text; give at least {rows}, the rows of a batch")
    tokenizer, folder = _tokenizer(Path(folder)), Path(folder)
    taken = inspect.signature(class_of_folder(folder).forward).parameters
    if "input_ids" not in taken:
        raise ModelError(f"the model in {folder} takes no text; give calibration data of its own kind as a .npz file")
    lines.sort(key=len)
    starts = range(0, len(lines) - rows + 1 if shape else len(lines), rows)
    batches = []
    for start in starts:
        made = tokenizer(
            lines[start : start + rows],
            padding="max_length" if shape else True,
            truncation=True,
            max_length=shape[1] if shape else LENGTH,
            return_tensors="pt",
        )
        batches.append({str(name): tensor for name, tensor in made.items() if name in taken})
    return batches


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as text in UTF-8 ({first_line(error)}); give a file with a sample in each line"
        ) from None
    found = [line for line in lines if line]
    if not found:
        raise InputError(f"{path} has no line with text; give a file with a sample in each line")
    return found


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):  # it would make an empty one
        raise ModelError(f"{folder} has no tokenizer; save one there with save_pretrained")
    try:
        with quiet_torch():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever the files of a tokenizer may hold
        raise ModelError(
            f"{folder} has a tokenizer that transformers cannot load ({first_line(error)}); save one there with save_pretrained"
        ) from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token  # its tokens are masked
    return tokenizer
