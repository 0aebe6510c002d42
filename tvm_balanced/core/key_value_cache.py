"""Caches of keys and values of transformers as plain data: what each layer holds. Nothing of transformers is imported.

A cache that the process has loaded the class of comes out as one of that class, elsewhere its fields are plain dicts:

    {"layers": [{"keys": tensor, "values": tensor, "sliding_window": None, "cumulative_length": None}, ...]}
    {"self_attention_cache": {"layers": ...}, "cross_attention_cache": {"layers": ...}}
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

MODULE = "transformers.cache_utils"
DYNAMIC, PAIR = f"{MODULE}.DynamicCache", f"{MODULE}.EncoderDecoderCache"
PARTS = ("self_attention_cache", "cross_attention_cache")
FULL, SLIDING = "DynamicLayer", "DynamicSlidingWindowLayer"


def is_cache(kind: Any) -> bool:
    """Whether a class is one of those caches, itself and no class derived from it."""
    return isinstance(kind, type) and f"{kind.__module__}.{kind.__qualname__}" in (DYNAMIC, PAIR)


def fields_of(cache: Any) -> dict[str, Any]:
    """Return what a cache holds, by name; raises TypeError for one with layers of another kind, or of unknown length."""
    if not is_cache(type(cache)):
        raise TypeError(f"{type(cache).__name__} is no cache of keys and values that is known here")
    if type(cache).__qualname__ == "EncoderDecoderCache":
        return {name: getattr(cache, name) for name in PARTS}
    return {"layers": [_fields_of_layer(layer) for layer in cache.layers]}


def held(value: Any) -> dict[str, Any] | None:
    """Return what a cache holds, by name; None for one that `fields_of` does not take, and for what is none."""
    try:
        return fields_of(value)
    except TypeError:
        return None


def _fields_of_layer(layer: Any) -> dict[str, Any]:
    """A window leaves out what was seen before it, so that the number of tokens seen is kept beside it."""
    kind = type(layer).__name__
    if type(layer).__module__ != MODULE or kind not in (FULL, SLIDING):
        raise TypeError(f"a DynamicCache has a layer of the class {kind}; {FULL} and {SLIDING} are known here")
    window, seen = (int(layer.sliding_window), layer.cumulative_length) if kind == SLIDING else (None, None)
    if seen is not None and type(seen) is not int:
        raise TypeError("a DynamicCache has a sliding window over a length that changes from call to call")
    keys, values = (layer.keys, layer.values) if layer.is_initialized else (None, None)
    return {"keys": keys, "values": values, "sliding_window": window, "cumulative_length": seen}


def builder(name: str) -> Callable[..., Any] | None:
    """Return what makes a cache of this class of its fields; None where it is none of these, or its module is not loaded."""
    module = sys.modules.get(MODULE)
    kind = getattr(module, name.rpartition(".")[2], None) if name in (DYNAMIC, PAIR) else None
    if kind is None:
        return None
    return _pair(kind) if name == PAIR else _dynamic(module, kind)


def _pair(kind: Any) -> Callable[..., Any]:
    def build(**caches: Any) -> Any:
        pair = kind.__new__(kind)  # its __init__ asks for the length of what it holds, which a stand-in for a tensor has not
        for name in PARTS:
            setattr(pair, name, caches[name])
        pair.is_updated = {place: layer.is_initialized for place, layer in enumerate(pair.cross_attention_cache.layers)}
        return pair

    return build


def _dynamic(module: Any, kind: Any) -> Callable[..., Any]:
    def build(layers: list[Mapping[str, Any]]) -> Any:
        cache = kind()
        cache.layers += [_layer(module, fields) for fields in layers]
        return cache

    return build


def _layer(module: Any, fields: Mapping[str, Any]) -> Any:
    window = fields["sliding_window"]
    layer = getattr(module, FULL)() if window is None else getattr(module, SLIDING)(window)
    if fields["keys"] is not None:  # `update` would copy them, and count a window's tokens from nothing
        layer.keys, layer.values, layer.is_initialized = fields["keys"], fields["values"], True
        layer.dtype, layer.device = getattr(layer.keys, "dtype", None), getattr(layer.keys, "device", None)
    if window is not None:
        layer.cumulative_length = fields["cumulative_length"]
    return layer
