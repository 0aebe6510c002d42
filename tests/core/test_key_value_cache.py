"""Caches of keys and values as plain data, by stand-ins for the classes of transformers."""

import sys
import types

import pytest

from tvm_balanced.core.key_value_cache import DYNAMIC, FULL, MODULE, PAIR, SLIDING, builder, fields_of, is_cache
from tvm_balanced.core.structure import collect, loaded_class, rebuild
from tvm_balanced.errors import InputError


class Layer:
    def __init__(self, *window):
        self.keys = self.values = None
        self.is_initialized, self.cumulative_length = False, 0
        self.sliding_window = window[0] if window else None


class Cache:
    def __init__(self, *caches):
        self.layers = []
        self.self_attention_cache, self.cross_attention_cache = caches or (None, None)


@pytest.fixture(autouse=True)
def module(monkeypatch):
    """What stands in the place of transformers' module, with classes of the same names."""
    made = types.ModuleType(MODULE)
    for name, base in ((FULL, Layer), (SLIDING, Layer), ("DynamicCache", Cache), ("EncoderDecoderCache", Cache)):
        setattr(made, name, type(name, (base,), {"__module__": MODULE}))
    monkeypatch.setitem(sys.modules, MODULE, made)
    return made


def layer(keys, values, window=None, seen=None):
    return {"keys": keys, "values": values, "sliding_window": window, "cumulative_length": seen}


@pytest.mark.parametrize("layers", [[], [layer("k", "v")], [layer("k", "v", 4, 9), layer(None, None)]])
def test_a_cache_is_made_of_what_it_holds(layers):
    cache = builder(DYNAMIC)(layers=layers)
    assert is_cache(type(cache))
    assert fields_of(cache) == {"layers": layers}
    pair = builder(PAIR)(self_attention_cache=cache, cross_attention_cache=builder(DYNAMIC)(layers=[]))
    assert fields_of(pair)["self_attention_cache"] is cache
    assert pair.is_updated == {}


def test_a_layer_of_another_kind_is_refused(module):
    cache = module.DynamicCache()
    cache.layers.append(types.SimpleNamespace())
    with pytest.raises(TypeError, match="a layer of the class SimpleNamespace"):
        fields_of(cache)
    cache.layers[0] = module.DynamicSlidingWindowLayer(4)
    cache.layers[0].cumulative_length = object()  # a symbol
    with pytest.raises(TypeError, match="a length that changes"):
        fields_of(cache)
    with pytest.raises(TypeError, match="no cache of keys and values"):
        fields_of(module)


EMPTY = Cache()
TREE = {
    "class": DYNAMIC,
    "fields": [
        [
            "layers",
            {"list": [{"dict": [[name, {"tensor": place}] for place, name in enumerate(("keys", "values"))] + [
                ["sliding_window", {"value": 4}], ["cumulative_length", {"value": 9}]]}]},
        ]
    ],
}  # fmt: skip


def test_a_call_takes_one_as_it_was_compiled():
    assert fields_of(rebuild(TREE, ["k", "v"], loaded_class)) == {"layers": [layer("k", "v", 4, 9)]}
    assert rebuild(TREE, ["k", "v"]) == {"layers": [layer("k", "v", 4, 9)]}, "where transformers is not loaded"
    found = {}
    collect(TREE, builder(DYNAMIC)(layers=[layer("k", "v", 4, 9)]), "past", ["keys", "values"], found)
    assert found == {0: "k", 1: "v"}
    for wrong, message in (
        (builder(DYNAMIC)(layers=[layer("k", "v", 4, 10)]), "past_layers_0_cumulative_length is 10, and was fixed to 9"),
        (builder(DYNAMIC)(layers=[]), "past_layers has 0 parts; the model takes 1"),
        (builder(PAIR)(self_attention_cache=EMPTY, cross_attention_cache=EMPTY), "was given where the model takes keys, values"),
        ("nothing", "past is 'nothing'; the model takes a transformers"),
    ):
        with pytest.raises(InputError, match=message):
            collect(TREE, wrong, "past", ["keys", "values"], {})


def test_nothing_is_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, MODULE)
    assert builder(DYNAMIC) is None
    assert MODULE not in sys.modules
