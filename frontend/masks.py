"""Apply the masks of a pruning run that lie in a file of their own, beside the weights."""

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.checkpoint import read_checkpoint

NESTS = ("masks", "mask", "state_dict", "state")
ENDINGS = ("_mask", ".mask")


def apply_masks(path: str | Path, tensors: Mapping[str, Any], found: list[str]) -> dict[str, Any]:
    """Return a state dict whose weights are multiplied by the masks of a file.

    Parameters
    ----------
    path : str or Path
        Of a checkpoint that holds masks of ones and zeros, or of booleans. Each is called as its weight ("fc.weight"), as its
        layer ("fc"), or as the weight with "_mask" or ".mask" behind it; NNI's {"fc": {"weight": mask}} is understood too, a
        prefix of all names, as "module.", and the state dict of a module that torch.nn.utils.prune masks.
    tensors : mapping
        A state dict.
    found : list of str
        Is told how many masks were applied.

    Raises
    ------
    ModelError
        If the file cannot be read, if a mask is for no weight, of another shape than its weight, or no mask.
    """
    masks = _without_prefix(_masks_alone(_flat(read_checkpoint(path))), tensors)
    masked = dict(tensors)
    for name, mask in masks.items():
        weight = _weight_of(name, masked)
        if weight is None:
            raise ModelError(
                f"{path} has a mask for {name!r:.80}, and there is no such weight; give the masks of this very model"
            )
        if not isinstance(mask, torch.Tensor) or not ((mask == 0) | (mask == 1)).all():
            raise ModelError(f"{path} holds something other than zeros and ones as the mask {name!r:.80}; give masks alone")
        if mask.shape != masked[weight].shape:
            raise ModelError(
                f"{path} has a mask of shape {list(mask.shape)} for {weight}, which has {list(masked[weight].shape)}; give the "
                "masks of this very model"
            )
        masked[weight] = masked[weight] * mask.to(masked[weight].dtype)
    found.append(f"multiplied {len(masks)} weights by the masks of {path}")
    return masked


def _flat(loaded: Mapping[Any, Any]) -> dict[str, Any]:
    """Return masks by name, from one level of nesting or two; a mask that is None, as NNI has it, masks nothing."""
    nest = next((name for name in NESTS if isinstance(loaded.get(name), Mapping)), None)
    flat: dict[str, Any] = {}
    for name, value in (loaded if nest is None else loaded[nest]).items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{part}": mask for part, mask in value.items()}
        else:
            flat[str(name)] = value
    return {name: mask for name, mask in flat.items() if mask is not None}


def _masks_alone(held: dict[str, Any]) -> dict[str, Any]:
    """Return the masks of a whole state dict, where each stands beside the X_orig that it masks; else everything."""
    pairs = {name: mask for name, mask in held.items() if f"{name.removesuffix('_mask')}_orig" in held and name.endswith("_mask")}
    return pairs or held


def _without_prefix(masks: dict[str, Any], tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return masks without what all of their names begin with, if without it alone they are called as weights."""
    parts = next(iter(masks), "").split(".")[:-1]
    for prefix in accumulate(("", *(f"{part}." for part in parts))):
        plain = {name.removeprefix(prefix): mask for name, mask in masks.items() if name.startswith(prefix)}
        if len(plain) == len(masks) and all(_weight_of(name, tensors) is not None for name in plain):
            return plain
    return masks


def _weight_of(name: str, tensors: Mapping[str, Any]) -> str | None:
    plain = next((name.removesuffix(ending) for ending in ENDINGS if name.endswith(ending)), name)
    candidates = (name, plain, f"{plain}.weight")
    return next((each for each in candidates if isinstance(tensors.get(each), torch.Tensor)), None)
