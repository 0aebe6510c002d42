"""How the arguments and the results of a model are nested, as plain data that a manifest keeps.

A tree is one of

    {"tensor": 3}                                 the fourth of the inputs, or of the outputs
    {"value": None}                               None, True, a number or a text that was fixed when the model was compiled
    {"tuple": [tree, ...]}, {"list": [tree, ...]}
    {"dict": [[key, tree], ...]}
    {"class": "module.Name", "fields": [[name, tree], ...]}     a dataclass, a ModelOutput of transformers, a namedtuple,
                                                                an OrderedDict of texts, a cache of `core.key_value_cache`

A call is a list of [name of a parameter, tree], in the order of the parameters.
"""

import dataclasses
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tvm_balanced.core.key_value_cache import builder, held, is_cache
from tvm_balanced.errors import InputError

Tree = dict[str, Any]
Call = list[list[Any]]
KINDS = ("tensor", "value", "tuple", "list", "dict", "class")
DEEPEST = 50  # levels of nesting


def tensors_of(tree: Tree) -> Iterator[int]:
    """Yield the places of a tree's tensors, in order."""
    if "tensor" in tree:
        yield tree["tensor"]
    for _, part in parts_of(tree):
        yield from tensors_of(part)


def parts_of(tree: Tree) -> list[tuple[Any, Tree]]:
    """Return the parts of a tree, each with its place or name in it."""
    if "tuple" in tree or "list" in tree:
        return list(enumerate(tree["tuple"] if "tuple" in tree else tree["list"]))
    pairs: Sequence[Any] = tree["dict"] if "dict" in tree else tree.get("fields", ())
    return [(key, part) for key, part in pairs]


def rebuild(tree: Tree, leaves: Sequence[Any], find: Callable[[str], Callable[..., Any] | None] | None = None) -> Any:
    """Return leaves nested as a tree says.

    Parameters
    ----------
    tree : dict
    leaves : sequence
        What stands at each place.
    find : callable, optional
        Returns what makes an object of a class, given by its name, of its fields; None where it is not loaded: then, and without
        `find`, its fields are a plain dict.
    """
    if "tensor" in tree:
        return leaves[tree["tensor"]]
    if "value" in tree:
        return tree["value"]
    built = [(key, rebuild(part, leaves, find)) for key, part in parts_of(tree)]
    if "tuple" in tree:
        return tuple(part for _, part in built)
    if "list" in tree:
        return [part for _, part in built]
    kind = find(tree["class"]) if "class" in tree and find is not None else None
    return dict(built) if kind is None else kind(**dict(built))


def loaded_class(name: str) -> Callable[..., Any] | None:
    """Return a class of this name if its module is loaded and it is made of named fields alone, or what makes a cache of them;
    nothing is imported.
    """
    cache = builder(name)
    if cache is not None:
        return cache
    module, _, attribute = name.rpartition(".")
    return of_fields(getattr(sys.modules.get(module), attribute, None))


def of_fields(kind: Any) -> type | None:
    """Return a class if it is made of named fields alone: a dataclass, a namedtuple or an OrderedDict."""
    if kind is OrderedDict:
        return OrderedDict
    named = isinstance(kind, type) and (dataclasses.is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields")))
    return kind if named else None


def collect(tree: Tree, value: Any, name: str, names: Sequence[str], found: dict[int, Any]) -> None:
    """Put the tensors of one argument of a call at their places.

    Parameters
    ----------
    tree : dict
        Of the parameter, as the model was compiled.
    value
        What the call gives for it.
    name : str
        Of the parameter, for messages.
    names : sequence of str
        Of the inputs, for messages.
    found : dict
        Receives place and tensor.

    Raises
    ------
    InputError
        If it is nested in another way, or a value is another than the one that was fixed.
    """
    if "tensor" in tree:
        found[tree["tensor"]] = value
        return
    if "value" in tree:
        if not _same(value, tree["value"]):
            raise InputError(
                f"{name} is {_shown(value)}, and was fixed to {tree['value']!r:.40} when the model was compiled; compile it "
                "again with examples that have this value"
            )
        return
    given, parts = _parts_given(tree, value), parts_of(tree)
    wanted = ", ".join(names[place] for place in tensors_of(tree))
    if given is None:
        raise InputError(f"{name} is {_shown(value)}; the model takes {_said(tree)} of {wanted}")
    extra = [key for key in given if key not in dict(parts) and given[key] is not None]
    lacking = [key for key, part in parts if key not in given and "value" not in part]
    if extra or lacking:
        if "tuple" in tree or "list" in tree:
            raise InputError(f"{name} has {len(given)} parts; the model takes {len(parts)}: {wanted}")
        raise InputError(f"a dict with {', '.join(map(str, given)) or 'nothing in it'} was given where the model takes {wanted}")
    for key, part in parts:
        if key in given:
            collect(part, given[key], f"{name}_{key}", names, found)


def _parts_given(tree: Tree, value: Any) -> dict[Any, Any] | None:
    """Return the parts of a value by place or name; None where it is no container of the tree's kind."""
    if "tuple" in tree or "list" in tree:
        return dict(enumerate(value)) if isinstance(value, (tuple, list)) else None
    if isinstance(value, Mapping):
        return dict(value)
    if is_cache(type(value)):
        return held(value)
    if "class" in tree and all(hasattr(value, key) for key, part in parts_of(tree) if "value" not in part):
        return {key: getattr(value, key) for key, _ in parts_of(tree) if hasattr(value, key)}
    return None


def _said(tree: Tree) -> str:
    return f"a {tree['class']}" if "class" in tree else f"a {next(kind for kind in KINDS if kind in tree)}"


def _shown(value: Any) -> str:
    plain = value is None or isinstance(value, (bool, int, float, str))
    return f"{value!r:.40}" if plain else f"a {type(value).__name__}"


def _same(value: Any, fixed: Any) -> bool:
    """Whether a value of a call is the one that was fixed; True is not 1."""
    if value is None or fixed is None or isinstance(value, bool) or isinstance(fixed, bool):
        return value is fixed
    if not isinstance(value, (int, float, str)) or isinstance(value, str) != isinstance(fixed, str):
        return False
    nan = isinstance(value, float) and isinstance(fixed, float) and math.isnan(value) and math.isnan(fixed)
    return nan or bool(value == fixed)


def check_tree(tree: Any, count: int, depth: int = 0) -> None:
    """Raise ValueError unless this is a tree whose tensors are places among `count`."""
    kinds = [kind for kind in KINDS if isinstance(tree, dict) and kind in tree]
    if len(kinds) != 1 or depth > DEEPEST or set(tree) != {*kinds, *(["fields"] if kinds == ["class"] else [])}:
        raise ValueError(f"a structure is {tree!r:.60}; it must be one of {', '.join(KINDS)}")
    kind = kinds[0]
    if kind == "tensor":
        place = tree["tensor"]
        if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < count:
            raise ValueError(f"a structure names tensor {place!r:.20} of {count}")
        return
    if kind == "value" and not (tree["value"] is None or isinstance(tree["value"], (bool, int, float, str))):
        raise ValueError(f"a structure has the value {tree['value']!r:.40}; it must be None, a number or a text")
    if kind == "class" and not isinstance(tree["class"], str):
        raise ValueError(f"a structure has the class {tree['class']!r:.40}; it must be a name")
    if kind == "value":
        return
    inside = tree["fields"] if kind == "class" else tree[kind]
    if not isinstance(inside, list):
        raise ValueError(f"a structure has {inside!r:.40} inside; it must be a list")
    if kind in ("dict", "class"):
        check_pairs(inside, (str,) if kind == "class" else (str, int, float, type(None)))
    for _, part in parts_of(tree):
        check_tree(part, count, depth + 1)


def check_pairs(pairs: Any, keys: tuple[type, ...] = (str,)) -> None:
    """Raise ValueError unless this is a list of pairs, each with a key of a kind, none twice."""
    fits = isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    if not fits or not all(isinstance(key, keys) for key, _ in pairs) or len({key for key, _ in pairs}) < len(pairs):
        raise ValueError(f"a structure has {pairs!r:.60}; it must be a list of pairs, each of another name")
