"""Arguments of the public functions, checked where they come in: one sentence for what would be an error deep inside."""

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from tvm_balanced.errors import InputError

MOST_THREADS = 4096  # of a call; more are a slip of the pen, and TVM would try to start them
LONGEST_NAME = 255  # bytes of a file's or a folder's name, on every file system that is in use


def require(name: str, value: Any, kinds: type | tuple[type, ...], expected: str) -> None:
    """Raise InputError unless `value` is an instance of `kinds`; True and False are no numbers here."""
    if not isinstance(value, kinds) or isinstance(value, bool):
        shown = repr(value)
        shown = f"{shown} ({type(value).__name__})" if len(shown) <= 40 and "\n" not in shown else type(value).__name__
        raise InputError(f"{name} is {shown}; give {expected}")


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise InputError unless `value` is a whole number from `least` up."""
    require(name, value, Integral, f"a whole number, {least} or more")
    if value < least:
        raise InputError(f"{name} is {value}; give {least} or more")


def check_threads(value: Any) -> None:
    """Raise InputError unless `value` is a number of threads that a call may have."""
    check_count("threads", value)
    if value > MOST_THREADS:
        raise InputError(f"threads is {value}; give 1 to {MOST_THREADS}, at best the number of cores")


def check_tolerance(value: Any) -> None:
    """Raise InputError unless `value` is None or a number from 0 up."""
    if value is None:
        return
    require("tolerance", value, Real, "a number, for instance 1e-4, or None for the default")
    if not value >= 0:
        raise InputError(f"tolerance is {value}; give 0 or more")


def check_precision(value: Any, known: Sequence[str]) -> None:
    """Raise InputError unless `value` is one of the known precisions."""
    if value not in known:
        raise InputError(f"precision is {value!r:.40}; give one of {', '.join(known)}")


def check_max_loss(value: Any) -> None:
    """Raise InputError unless `value` is a number from 0 up."""
    require("max_loss", value, Real, "a number, for instance 0.01")
    if not value >= 0:
        raise InputError(f"max_loss is {value}; give 0 or more")


def check_kernels(value: Any) -> None:
    """Raise InputError unless `value` is None or a mapping of texts to texts."""
    expected = 'a mapping of layer names to kernels, for instance {"encoder.*": "cpu_portable"}'
    if value is not None:
        require("kernels", value, Mapping, expected)
        for text in (*value, *value.values()):
            require("a key or value of kernels", text, str, expected)


def check_donate(value: Any) -> None:
    """Raise InputError unless `value` is None or a mapping of texts to texts."""
    expected = 'a mapping of inputs to outputs, for instance {"cache": "new_cache"}'
    if value is not None:
        require("donate", value, Mapping, expected)
        for text in (*value, *value.values()):
            require("a key or value of donate", text, str, expected)


def check_names(name: str, value: Any) -> tuple[str, ...]:
    """Return layer names, given as one text or several; raises InputError for anything else."""
    expected = 'a layer name, or a list of them, for instance ["encoder.*"]'
    if isinstance(value, str):
        return (value,)
    require(name, value, Iterable, expected)
    names = tuple(value)
    for text in names:
        require(f"an entry of {name}", text, str, expected)
    return names


def check_path(value: Any) -> Path:
    """Return a path; raises InputError where `value` is none, or has a name that no file can have."""
    require("path", value, (str, os.PathLike), "a path, as text or pathlib.Path")
    path = Path(value)
    if "\0" in str(path):
        raise InputError(f"path {str(path)!r:.60} has a NUL character; give a path without one")
    for part in path.parts:
        if len(os.fsencode(part)) > LONGEST_NAME:
            raise InputError(f"path has the name {part:.30}... of {len(os.fsencode(part))} bytes; give at most {LONGEST_NAME}")
    return path


def check_examples(args: Any, kwargs: Any, dynamic_shapes: Any) -> None:
    """Raise InputError unless these have the containers that torch.export takes."""
    expected = "a tuple of example tensors, one for each argument of the model"
    if isinstance(args, Mapping):
        raise InputError(f"args is a {type(args).__name__} of {', '.join(map(str, args))[:80]}; give examples by name as kwargs=")
    require("args", args, Sequence, expected)
    if isinstance(args, (str, bytes)):
        raise InputError(f"args is {args!r:.40}; give {expected}")
    if kwargs is not None:
        require("kwargs", kwargs, Mapping, "a mapping of argument names to example tensors")
    if dynamic_shapes is not None:
        require(
            "dynamic_shapes",
            dynamic_shapes,
            (Mapping, tuple, list),
            'what torch.export.export takes, for instance ({0: torch.export.Dim("batch")},)',
        )
