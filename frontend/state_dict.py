"""Load weights from a separate file: .safetensors, or a state dict written by torch.save."""

from pathlib import Path

import torch
from torch import nn

from tvm_balanced.core.files import new_file
from tvm_balanced.core.validation import check_path
from tvm_balanced.errors import ModelError, first_line, last_line


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load weights from a file into a module, in place and strictly.

    Raises
    ------
    ModelError
        If the file is missing or damaged, if its names or shapes differ from the module's, or if it
        holds the dense weights of an unfinished pruning run.
    """
    path = check_path(path)
    if not path.is_file():
        raise ModelError(f"{path} is not a file; give weights in .safetensors, or a state dict that torch.save wrote", usage=True)
    tensors = _read(path)
    dense = [name for name in tensors if name.endswith("parametrizations.weight.original")]
    if dense:
        raise ModelError(
            f"{path} holds {dense[0]}, a weight without its mask; call squash_mask() on the sparsifier before saving"
        )
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(
            f"{path} does not fit {type(model).__name__}: {last_line(error)}; give the weights of this very model"
        ) from None


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


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        loaded = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # safetensors, pickle and zipfile each raise their own
        raise ModelError(f"{path} is not a readable weight file ({type(error).__name__}); write it again") from error
    if not isinstance(loaded, dict):
        raise ModelError(f"{path} holds {type(loaded).__name__}; give a state dict")
    return loaded
