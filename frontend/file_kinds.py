"""Tell what a file or folder is that was given as a model or as weights and is neither, and what to do with it."""

import contextlib
import pickle
import pickletools
import re
import zipfile
from pathlib import Path

import torch

from tvm_balanced.core.files import parse_json
from tvm_balanced.errors import ModelError

FACTORY = "write a factory that loads it and returns (module, example arguments), and give package.module:factory"
EXPORT = "export the nn.Module it was made from with torch.export.save"
MERGE = "load it with PEFT, call merge_and_unload(), and write the result with save_pretrained"

CODE = re.compile(r"unsupported global|trying to (call|instantiate)", re.IGNORECASE)  # as torch says it of a pickle
RUNS_CODE = ("objects", "pickled module")

# kind: what it is, what to do where a model was wanted, what to do where weights were wanted
SUFFIXES = {".onnx": "onnx", ".py": "python"}  # of kinds that only the name tells
ADVICE = {
    "hf folder": (
        "a folder of Hugging Face transformers",
        "give it as the model of compile, inspect or tune",
        "it has no weights under a name that transformers gives them, model.safetensors for instance: call them so",
    ),
    "artifact": (
        "an artifact that compile wrote",
        "give it to tvm-balanced run or tvm_balanced.load",
        "give the weights that it was compiled from",
    ),
    "adapter": (
        "a folder of an adapter, which lacks the weights that it is for",
        MERGE,
        MERGE,
    ),
    "folder": (
        "a folder without a config.json",
        "give one that save_pretrained of transformers wrote, a .pt2 that torch.export.save wrote, or package.module:factory",
        "give a file of weights",
    ),
    "config": ("the config.json of a folder of transformers", "give the folder", "give the folder, or its file of weights"),
    "objects": (
        "a file with objects among its tensors, which runs code when it is read",
        FACTORY,
        "load it where you trust it, torch.load(file, weights_only=False), and write its state dict alone with torch.save",
    ),
    "safetensors": ("a file of weights alone, in safetensors", "give it as --weights beside package.module:factory", ""),
    "state dict": ("a file of weights alone, a state dict", "give it as --weights beside package.module:factory", ""),
    "pickled module": (
        "a whole pickled module, which runs code when it is read",
        FACTORY,
        "load it where you trust it, and write module.state_dict() with torch.save",
    ),
    "torchscript": ("a TorchScript program", EXPORT, "write torch.jit.load(file).state_dict() with torch.save"),
    "onnx": (
        "an ONNX model",
        "give it as the model of compile, inspect or tune",
        "give the state dict of the nn.Module it was made from",
    ),
    "python": ("a file of Python", "give its name without .py and a callable in it, as module:factory", "give a file of weights"),
    "gguf": ("a GGUF file", FACTORY, "write the state dict of its nn.Module with torch.save"),
    "pt2": ("an exported program, a .pt2", "", "give it as the model, without --weights"),
}


def refusal(path: Path, weights: bool) -> ModelError | None:
    """Return the error "PATH is ...; do ..." for something of a known kind, None for any other. A file that would run code is no
    wrong usage.

    Parameters
    ----------
    path : Path
        Of what was given; it need not exist.
    weights : bool
        Whether weights were wanted rather than a model.
    """
    kind = _folder(path) if path.is_dir() else _file(path) if path.is_file() else None
    if kind is None:
        return None
    what, *advice = ADVICE[kind]
    return ModelError(f"{path} is {what}; {advice[weights]}", usage=kind not in RUNS_CODE) if advice[weights] else None


def _folder(path: Path) -> str:
    if (path / "manifest.json").is_file():
        return "artifact"
    if (path / "adapter_config.json").is_file():
        return "adapter"
    return "hf folder" if (path / "config.json").is_file() else "folder"


def _names_in(archive: Path) -> set[str]:
    """Return the names in a zip archive without their first folder; none where it is damaged, or no zip archive."""
    try:  # even is_zipfile raises for some that are damaged
        with zipfile.ZipFile(archive) as opened:
            return {name.partition("/")[2] for name in opened.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return set()


def _file(path: Path) -> str | None:
    names = _names_in(path)
    if "models/model.json" in names:
        return "pt2"
    if "constants.pkl" in names:
        return "torchscript"
    with path.open("rb") as file:
        start = file.read(64)
    if start[:4] == b"GGUF":
        return "gguf"
    if _is_safetensors(path, start):
        return "safetensors"
    if path.name == "config.json":
        return "config"
    if path.suffix in SUFFIXES:
        return SUFFIXES[path.suffix]
    return _pickled(path)


def _is_safetensors(path: Path, start: bytes) -> bool:
    size = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or not 2 <= size <= path.stat().st_size - 8:
        return False
    with path.open("rb") as file:
        try:
            return isinstance(parse_json(file.read(8 + size)[8:]), dict)
        except ValueError:
            return False


def _begins_with_a_class(path: Path) -> bool:
    """Whether the first that a pickle names is an object, and no dict that holds one; its opcodes are read, nothing runs."""
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        for opcode, argument, _ in pickletools.genops(archive.read(name)):
            if opcode.name not in ("PROTO", "FRAME"):
                return opcode.name == "GLOBAL" and argument != "collections OrderedDict"
    return False


def _pickled(path: Path) -> str | None:
    """Return what torch.save wrote; nothing of it runs."""
    try:
        loaded = torch.load(path, weights_only=True, map_location="meta")
    except pickle.UnpicklingError as error:
        if not CODE.search(str(error)):
            return None
        return "pickled module" if _begins_with_a_class(path) else "objects"
    except Exception:  # torch, zipfile and pickle each raise their own for what is none of theirs
        return None
    return "state dict" if isinstance(loaded, dict) else None
