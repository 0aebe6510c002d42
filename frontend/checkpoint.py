"""Read a checkpoint, whose weights may lie in one file or in several that an index lists; no code that a file holds runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tvm_balanced.core.files import parse_json
from tvm_balanced.core.validation import check_path
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.file_kinds import refusal
from tvm_balanced.frontend.mapped_safetensors import read_safetensors

INDEX = ".index.json"
# What a folder's weights are called, in the order in which transformers looks for them: an index may be left of older files.
IN_FOLDER = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

ADAPTER = "adapter_model.safetensors"  # of PEFT: what is added to weights that lie elsewhere


def _empty(*_: Any) -> dict[Any, Any]:
    """Return a dict; its entries follow in the pickle."""
    return {}


# The states of sparsifiers of torch.ao.pruning, which hold masks, are defaultdicts, which torch does not read by itself.
PLAIN_DICTS: list[Any] = [(_empty, "collections.defaultdict"), dict]


def read_checkpoint(path: str | Path) -> dict[Any, Any]:
    """Return what a checkpoint holds, mostly a state dict.

    Parameters
    ----------
    path : str or Path
        A .safetensors file, a file that torch.save wrote, the index (*.index.json) of several of these, or a folder with one of
        them under the name that transformers gives it.

    Raises
    ------
    ModelError
        If there is no such file, if one is damaged, holds code or is something else, or if an index does not fit its files.
    """
    path = check_path(path)
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise refusal(path, weights=True) or ModelError(
            f"{path} is not a file; give weights in .safetensors, or a state dict that torch.save wrote",
            usage=True,
        )
    return _sharded(path) if path.name.endswith(INDEX) else _read(path)


def config_beside(path: str | Path) -> Mapping[str, Any]:
    """Return config.json in the folder of a checkpoint; empty where there is none that can be read."""
    path = Path(path)
    file = (path if path.is_dir() else path.parent) / "config.json"
    try:
        config = parse_json(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _in_folder(folder: Path) -> Path:
    """Return the file of a folder that has its weights, or the folder itself where there is none or more than one."""
    for name in IN_FOLDER:
        if (folder / name).is_file():
            return folder / name
    only = sorted(file for file in folder.glob("*.safetensors") if file.name != ADAPTER)
    return only[0] if len(only) == 1 else folder


def _sharded(index: Path) -> dict[str, Any]:
    """Return the tensors that an index lists, from the files in its folder."""
    try:
        files = parse_json(index.read_bytes())["weight_map"]
        listed = {str(name): str(file) for name, file in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f'{index} is not the index of a checkpoint: it has no "weight_map"; copy it again') from None
    tensors: dict[str, Any] = {}
    for file in sorted(set(listed.values())):
        if Path(file).name != file or file in ("", ".", ".."):
            raise ModelError(
                f"{index} names {file!r:.60}, which is not a file in its folder; give an index whose files lie beside it"
            )
        shard = index.parent / file
        if not shard.is_file():
            raise ModelError(f"{shard} is missing, which {index.name} lists; copy the checkpoint again")
        held = _read(shard)
        for name in (name for name, where in listed.items() if where == file):
            if name not in held:
                raise ModelError(f"{shard} does not hold {name}, which {index.name} lists there; copy the checkpoint again")
            tensors[name] = held[name]
    return tensors


def _read(path: Path) -> dict[Any, Any]:
    try:
        if path.suffix == ".safetensors":
            return dict(read_safetensors(path))
        with torch.serialization.safe_globals(PLAIN_DICTS):
            loaded = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # safetensors, pickle and zipfile each raise their own
        other = refusal(path, weights=True)
        if other is not None:
            raise other from None
        raise ModelError(f"{path} is not a readable weight file ({type(error).__name__}); write it again") from error
    if not isinstance(loaded, dict):
        raise refusal(path, weights=True) or ModelError(f"{path} holds {type(loaded).__name__}; give a state dict")
    return loaded
