"""Import "package.module:factory", a callable that returns an nn.Module and its example arguments."""

import importlib
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from tvm_balanced.core.entry_point import EntryPoint, check_entry_points
from tvm_balanced.errors import ModelError, Terminated, first_line

Examples = tuple[Any, ...] | EntryPoint | Mapping[str, EntryPoint]


def load_factory(name: str) -> tuple[nn.Module, Examples]:
    """Call a factory and return (module, example arguments), or (module, entry points).

    Where it returns (module, arguments, keyword arguments), the latter two come as one EntryPoint.

    The current directory is searched too, so that a factory can be in a file beside the user.

    Parameters
    ----------
    name : str
        "package.module:factory".

    Raises
    ------
    InputError
        If an entry point has an invalid name, or is not an EntryPoint.
    ModelError
        If the name does not resolve, which is wrong usage, or if the factory fails or returns
        something else.
    """
    made = called(name, "(module, example arguments)")
    if not (isinstance(made, tuple) and len(made) in (2, 3) and isinstance(made[0], nn.Module)):
        raise ModelError(
            f"{name} returned {type(made).__name__}; it must return (torch.nn.Module, tuple of example arguments), and a dict of "
            "keyword arguments behind them if there are any"
        )
    module, args, *kwargs = made
    if kwargs:
        return module, EntryPoint(args, *kwargs)
    if isinstance(args, Mapping) and any(isinstance(entry, EntryPoint) for entry in args.values()):
        return module, check_entry_points(args)
    return module, tuple(args) if isinstance(args, (tuple, list)) else (args,)


def called(name: str, wanted: str) -> Any:
    """Call "package.module:callable", which must return what `wanted` says, and return what it does; raises ModelError."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ModelError(f'model "{name}" is neither a .pt2 file nor package.module:factory', usage=True)
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return _resolve(module_name, attribute)()
    except (ModelError, Terminated):
        raise
    except SystemExit as error:
        raise ModelError(f"{name} ended with sys.exit({error.code!r}) and returned nothing; let it return {wanted}") from error
    except Exception as error:  # a user's code may raise anything
        why = f"{type(error).__name__}: {first_line(error)}"
        raise ModelError(f"{name} failed with {why}{_where(error, module_name)}; let it return {wanted}") from error
    finally:
        sys.path.remove(here)


def _where(error: BaseException, module: str) -> str:
    """Return the last line of the user's module that was reached, "" if none was."""
    frames = traceback.walk_tb(error.__traceback__)
    own = [(frame, line) for frame, line in frames if frame.f_globals.get("__name__") == module]
    return f" in line {own[-1][1]} of {Path(own[-1][0].f_code.co_filename).name}" if own else ""


def _resolve(module_name: str, attribute: str) -> Callable[[], Any]:
    """Return the factory; raises ModelError if there is none of that name, and any error from
    importing its module.
    """
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):  # imported by the user's module
            raise
        raise ModelError(
            f"there is no module {error.name}; give package.module:factory, of an installed package or a file in this folder",
            usage=True,
        ) from None
    factory = getattr(module, attribute, None)
    if not callable(factory):
        found = "missing" if factory is None else f"of type {type(factory).__name__}"
        raise ModelError(f"{module_name}:{attribute} is {found}; give the name of a callable", usage=True)
    made: Callable[[], Any] = factory
    return made
