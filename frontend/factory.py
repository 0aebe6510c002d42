"""The way in for "package.module:factory": a callable that returns an nn.Module and its example arguments."""

import importlib
import sys
from pathlib import Path
from typing import Any

from torch import nn

from tvm_balanced.errors import ModelError


def load_factory(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """Call a factory and return (module, example arguments).

    The current directory is searched too, so that a factory can live in a file beside the user.

    Parameters
    ----------
    name : str
        "package.module:factory".

    Raises
    ------
    ModelError
        Where the name does not resolve, the factory fails, or it returns something else.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ModelError(f'model "{name}" is neither a .pt2 file nor package.module:factory')
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
        made = factory()
    except ModelError:
        raise
    except Exception as error:  # a user's code: anything may come out of it
        raise ModelError(
            f"{name} failed with {type(error).__name__}: {error}; it must be a callable that returns (module, example arguments)"
        ) from error
    finally:
        sys.path.remove(here)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise ModelError(f"{name} returned {type(made).__name__}; it must return (torch.nn.Module, tuple of example arguments)")
    module, args = made
    return module, tuple(args) if isinstance(args, (tuple, list)) else (args,)
