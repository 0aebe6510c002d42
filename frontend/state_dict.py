"""Load weights from a checkpoint into a module, and write them."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tvm_balanced.core.files import new_file
from tvm_balanced.core.validation import check_path
from tvm_balanced.errors import ModelError, first_line, last_line
from tvm_balanced.frontend.checkpoint import config_beside, read_checkpoint
from tvm_balanced.frontend.compressed_tensors import decompressed, is_compressed
from tvm_balanced.frontend.masks import apply_masks

EIGHT = 'give the float weights, and kernels={"*": "cpu_avx512_i8"} (--kernel "*=cpu_avx512_i8") to compute with 8 bits'
UNUSABLE = {  # how the name of a weight ends, and what it is
    "parametrizations.weight.original": "a weight without its mask; call squash_mask() on the sparsifier before saving",
    "weight_orig": "a weight without its mask; call torch.nn.utils.prune.remove on its layer before saving",
    "._packed_params._packed_params": f"a packed, quantised weight; {EIGHT}",
    ".qweight": "a weight packed by GPTQ or AWQ; load the model with the tool that wrote it, dequantize it, and save it again",
}

NESTS = ("state_dict", "model_state_dict", "model")  # where training loops keep the weights among other things
PREFIXES = ("module.", "_orig_mod.")  # of nn.DataParallel, of torch.compile


def load_weights(model: nn.Module, path: str | Path, masks: str | Path | None = None) -> tuple[str, ...]:
    """Load weights from a checkpoint into a module, in place and strictly.

    Parameters
    ----------
    model : torch.nn.Module
    path : str or Path
        As `checkpoint.read_checkpoint` takes it.
    masks : str or Path, optional
        Of masks to multiply the weights by, as `masks.apply_masks` takes it.

    Returns
    -------
    tuple of str
        What was understood and not taken as it is, a phrase each.

    Raises
    ------
    ModelError
        If the file is missing or damaged, if its names or shapes differ from the module's, or if it
        holds the dense weights of an unfinished pruning run.
    """
    path = check_path(path)
    tensors, found = read_state_dict(path, set(model.state_dict()), masks)
    _check_dtypes(path, model, tensors, found)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(
            f"{path} does not fit {type(model).__name__}: {last_line(error)}; give the weights of this very model"
        ) from None
    return tuple(found)


def read_state_dict(path: Path, own: set[str], masks: str | Path | None = None) -> tuple[dict[str, Any], list[str]]:
    """Return the state dict of a checkpoint as plain weights, and what was done for that, a phrase each.

    Understood are {"state_dict": ...} and the like around it, a prefix of all names that the module has, as "module.", pairs
    of X_orig and X_mask of torch.nn.utils.prune, whose product is X, the formats of compressed-tensors, and masks in a file of
    their own.

    Parameters
    ----------
    path : Path
        As `checkpoint.read_checkpoint` takes it.
    own : set of str
        Names that the module has: none of these is taken apart.
    masks : str or Path, optional
        As `masks.apply_masks` takes it.

    Raises
    ------
    ModelError
        As `load_weights`.
    """
    found: list[str] = []
    tensors = _names(path, _unnested(read_checkpoint(path), own, found))
    tensors = _folded(path, _stripped(tensors, own, found), own, found)
    if is_compressed({name: tensor for name, tensor in tensors.items() if name not in own}):
        tensors = decompressed(path, tensors, config_beside(path), found)
    _refuse_others(path, tensors, own)
    return (tensors if masks is None else apply_masks(masks, tensors, found)), found


def _unnested(loaded: dict[Any, Any], own: set[str], found: list[str]) -> dict[Any, Any]:
    nest = next((name for name in NESTS if name not in own and isinstance(loaded.get(name), Mapping)), None)
    if nest is None:  # under a name of the user's own, if it is the only one that has the weights
        fit = [name for name, part in loaded.items() if isinstance(part, Mapping) and _prefix(part, own) is not None]
        nest = fit[0] if len(fit) == 1 else None
    if nest is None:
        return loaded
    found.append(f'took "{nest}" of what the file holds')
    return dict(loaded[nest])


def _names(path: Path, loaded: dict[Any, Any]) -> dict[str, Any]:
    """Return the state dict if its keys are names; raises ModelError."""
    for name in loaded:
        if not isinstance(name, str):
            raise ModelError(f"{path} has {name!r:.40} ({type(name).__name__}) where names belong; give a state dict")
    return loaded


def _stripped(tensors: dict[str, torch.Tensor], own: set[str], found: list[str]) -> dict[str, torch.Tensor]:
    for prefix in (*PREFIXES, PREFIXES[0]):  # either may be around the other
        if tensors and all(name.startswith(prefix) for name in tensors) and not any(name.startswith(prefix) for name in own):
            found.append(f'dropped the prefix "{prefix}"')
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    outer = _prefix(tensors, own)
    if not outer:
        return tensors
    found.append(f'dropped the prefix "{outer}"')
    others = [name for name in tensors if not name.startswith(outer)]
    if others:
        found.append(f"left {len(others)} tensors aside that are not of this module, {others[0]} first")
    return {name.removeprefix(outer): tensor for name, tensor in tensors.items() if name.startswith(outer)}


def _prefix(tensors: Mapping[Any, Any], own: set[str]) -> str | None:
    """Return what stands before all of a module's names in a state dict, "" for nothing; None where one of them is not there, or
    several have them all.

    The module was a part of another, as `model.` of a LightningModule. What belongs to a name may have an ending, as X_orig.
    """
    stems = {re.sub(r"(_orig|_packed|\.compressed)$", "", name) for name in tensors if isinstance(name, str)}
    first = min(own, default=None)
    if first is None:
        return None
    prefixes = {stem.removesuffix(first) for stem in stems if stem == first or stem.endswith(f".{first}")}
    fit = [prefix for prefix in prefixes if all(f"{prefix}{name}" in stems for name in own)]
    return fit[0] if len(fit) == 1 else "" if "" in fit else None


def _folded(path: Path, tensors: dict[str, torch.Tensor], own: set[str], found: list[str]) -> dict[str, torch.Tensor]:
    """Multiply each X_orig by its X_mask, where the module has X."""
    pairs = [
        name.removesuffix("_orig")
        for name in tensors
        if name.endswith("_orig") and name not in own and f"{name.removesuffix('_orig')}_mask" in tensors
    ]
    if not pairs:
        return tensors
    found.append(f"multiplied {len(pairs)} weights by their masks (X_orig by X_mask)")
    folded = dict(tensors)
    for name in pairs:
        weight, mask = folded.pop(f"{name}_orig"), folded.pop(f"{name}_mask")
        if weight.shape != mask.shape:
            raise ModelError(
                f"{path} has a mask of shape {list(mask.shape)} for {name}, which has {list(weight.shape)}; write the file again"
            )
        folded[name] = weight * mask.to(weight.dtype)
    return folded


def _refuse_others(path: Path, tensors: dict[str, Any], own: set[str]) -> None:
    """Raise ModelError for weights of a kind that no module of plain weights takes, and for what is no tensor."""
    for ending, advice in UNUSABLE.items():
        name = next((name for name in tensors if name.endswith(ending) and name not in own), None)
        if name is not None:
            raise ModelError(f"{path} holds {name}, {advice}")
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor) and not name.endswith("_extra_state"):
            raise ModelError(f'{path} holds {type(value).__name__} as "{name:.80}"; give a state dict, whose values are tensors')


def _check_dtypes(path: Path, model: nn.Module, tensors: dict[str, torch.Tensor], found: list[str]) -> None:
    """Say which weights are converted to the module's dtype; raises ModelError for integers where it has floats."""
    casts: Counter[tuple[str, str]] = Counter()
    for name, own in model.state_dict().items():
        given = tensors.get(name)
        if not isinstance(own, torch.Tensor) or given is None or given.dtype == own.dtype:
            continue
        have, want = (str(dtype).removeprefix("torch.") for dtype in (given.dtype, own.dtype))
        if own.is_floating_point() and not given.is_floating_point():
            raise ModelError(f"{path} holds {name} in {have}, where {type(model).__name__} has {want}; {EIGHT}")
        casts[have, want] += 1
    found += [f"converted {count} weights from {have} to {want}" for (have, want), count in casts.items()]


def save_weights(model: nn.Module, path: str | Path) -> None:
    """Write a module's weights as .safetensors; tied weights are written once under each of their names.

    Raises
    ------
    ModelError
        If the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # clones: safetensors refuses tensors that share memory
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in model.state_dict().items()}
    path = check_path(path)
    try:
        with new_file(path) as temporary:
            save_file(tensors, str(temporary))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be written ({first_line(error)}); choose another place") from None
