"""Let torch take caches of keys and values of transformers apart, so that a model may be given one and return one."""

import sys
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tvm_balanced.core.key_value_cache import DYNAMIC, MODULE, PAIR, builder, fields_of, is_cache

Parts = tuple[list[Any], Any]
TENSORS = ("keys", "values")


def register_cache(kind: Any) -> bool:
    """Make a class of caches known to torch in place of what it knew of it; returns whether that is new.

    What transformers itself registers leaves out how many tokens a sliding window has seen.
    """
    if not is_cache(kind):
        return False
    known = pytree.SUPPORTED_NODES.get(kind)
    if known is not None and known.flatten_fn is _flatten:
        return False
    if known is not None:
        pytree._deregister_pytree_node(kind)
    name = f"{kind.__module__}.{kind.__qualname__}"
    pytree.register_pytree_node(kind, _flatten, _unflatten, serialized_type_name=name, flatten_with_keys_fn=_flatten_with_keys)
    torch.fx._pytree.register_pytree_flatten_spec(kind, lambda cache, _spec: _flatten(cache)[0])
    return True


def replace_others() -> None:
    """Make caches that torch knows already, as transformers itself registers them, known as they are here."""
    module = sys.modules.get(MODULE)
    for name in (DYNAMIC, PAIR):
        kind = getattr(module, name.rpartition(".")[2], None)
        if kind in pytree.SUPPORTED_NODES:
            register_cache(kind)


def takes_cache(args: Any, kwargs: Any) -> bool:
    """Whether there is a cache among arguments."""
    leaves = pytree.tree_leaves((args, kwargs), is_leaf=lambda part: is_cache(type(part)))
    return any(is_cache(type(leaf)) for leaf in leaves)


def _flatten(cache: Any) -> Parts:
    keyed, context = _flatten_with_keys(cache)
    return [part for _, part in keyed], context


def _flatten_with_keys(cache: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """Return keys and values of layer after layer, and the rest as plain data; of a pair, its caches."""
    fields = fields_of(cache)
    name = f"{type(cache).__module__}.{type(cache).__qualname__}"
    if "layers" not in fields:
        return [(pytree.GetAttrKey(part), held) for part, held in fields.items()], [name, list(fields)]
    tensors = [
        (pytree.GetAttrKey(f"{part}_{place}"), layer[part])
        for place, layer in enumerate(fields["layers"])
        for part in TENSORS
        if layer[part] is not None
    ]
    rest = [[layer["keys"] is not None, layer["sliding_window"], layer["cumulative_length"]] for layer in fields["layers"]]
    return tensors, [name, rest]


def _unflatten(parts: Any, context: Any) -> Any:
    (name, rest), given = context, iter(parts)
    build = builder(name)
    assert build is not None  # its class was registered
    if rest and isinstance(rest[0], str):
        return build(**dict(zip(rest, given, strict=True)))
    layers = []
    for held, window, seen in rest:
        keys, values = (next(given), next(given)) if held else (None, None)
        layers.append({"keys": keys, "values": values, "sliding_window": window, "cumulative_length": seen})
    return build(layers=layers)
