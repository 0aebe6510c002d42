"""A compiled module returns the same as its model, with any nesting."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import tvm_balanced as tb
from tvm_balanced.errors import ModelError

Pair = namedtuple("Pair", "mean spread")


@dataclass
class Result:
    logits: torch.Tensor
    hidden: list


torch.export.register_dataclass(Result, serialized_type_name="test_outputs.Result")


class Model(nn.Module):
    def __init__(self, shape_of):
        super().__init__()
        self.shape_of = shape_of

    def forward(self, x):
        return self.shape_of(x + 1, x * 2)


STRUCTURES = {
    "tensor": (lambda a, b: a - b, ["output_0"]),
    "tuple": (lambda a, b: (a, b), ["output_0", "output_1"]),
    "tuple of one": (lambda a, b: (a,), ["output_0"]),
    "list": (lambda a, b: [a, b], ["output_0", "output_1"]),
    "dict": (lambda a, b: {"logits": a, "hidden": (b, [a])}, ["logits", "hidden_0", "hidden_1_0"]),
    "dict in another order": (lambda a, b: {"b": b, "a": a}, ["b", "a"]),
    "dict of numbers": (lambda a, b: {1: a, 0: b}, ["output_1", "output_0"]),
    "constants between": (lambda a, b: (None, a, {"n": 3, "b": b}), ["output_1", "output_2_b"]),
    "nested tuples": (lambda a, b: (a, (b, (a,))), ["output_0", "output_1_0", "output_1_1_0"]),
    "dataclass": (lambda a, b: Result(a, [b]), ["logits", "hidden_0"]),
    "names that clash": (lambda a, b: {"a_0": a, "a": [b]}, ["output_0", "output_1"]),
}


@pytest.mark.grid
@pytest.mark.parametrize("case", STRUCTURES)
def test_outputs_are_nested_as_the_model_nests_them(case, tmp_path):
    shape_of, names = STRUCTURES[case]
    model, x = Model(shape_of), torch.arange(6.0).reshape(2, 3)
    module = tb.compile(model, (x,))
    module.save(tmp_path / "m.tb")
    want = model(x)
    for compiled in (module, tb.load(tmp_path / "m.tb")):
        got = compiled(x)
        assert pytree.tree_structure(got) == pytree.tree_structure(want)
        torch.testing.assert_close(pytree.tree_leaves(got), pytree.tree_leaves(want))
        assert [spec.name for spec in compiled.facts.outputs] == names
        arrays = pytree.tree_map_only(np.ndarray, torch.from_numpy, compiled(x.numpy()))
        if case != "dataclass":  # a plain dict with arrays, as where torch is not installed
            assert pytree.tree_structure(arrays) == pytree.tree_structure(want)
        torch.testing.assert_close(pytree.tree_leaves(arrays), pytree.tree_leaves(want))


def test_outputs_of_transformers_are_its_own_class():
    from transformers.modeling_outputs import BaseModelOutput

    model, x = Model(lambda a, b: BaseModelOutput(last_hidden_state=a, hidden_states=(b,))), torch.ones(2, 3)
    got = tb.compile(model, (x,))(x)
    assert isinstance(got, BaseModelOutput)
    torch.testing.assert_close(got.hidden_states[0], x * 2)


def test_a_namedtuple_comes_back_by_its_fields():
    x = torch.ones(2, 3)
    module = tb.compile(Model(Pair), (x,))
    assert [spec.name for spec in module.facts.outputs] == ["mean", "spread"]
    arrays = module(x.numpy())
    assert list(arrays) == ["mean", "spread"]
    np.testing.assert_array_equal(arrays["spread"], 2 * x.numpy())


def test_an_ordered_dict_is_a_dict_in_that_order():
    x = torch.ones(2, 3)
    got = tb.compile(Model(lambda a, b: OrderedDict(b=b, a=a)), (x,))(x)
    assert list(got) == ["b", "a"]


def test_a_class_that_is_not_loaded_is_a_plain_dict(monkeypatch):
    x = torch.ones(2, 3)
    module = tb.compile(Model(lambda a, b: Result(a, [b, a])), (x,))
    assert isinstance(module(x), Result)
    monkeypatch.delitem(pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE, "test_outputs.Result")
    got = module(x)
    assert list(got) == ["logits", "hidden"]
    torch.testing.assert_close(got["hidden"], [x * 2, x + 1])


def test_dataclasses_that_torch_does_not_know_are_made_known(monkeypatch):
    @dataclass
    class Fresh:
        logits: torch.Tensor
        loss: torch.Tensor | None = None

    @dataclass
    class Around:
        inner: Fresh
        scale: torch.Tensor

    for kind in (Fresh, Around):
        monkeypatch.setitem(globals(), kind.__name__, kind)
        kind.__qualname__ = kind.__name__
    x = torch.ones(2, 3)
    got = tb.compile(Model(lambda a, b: Around(Fresh(a * b), b)), (x,))(x)
    assert isinstance(got, (Around, dict))
    inner, scale = got.values() if isinstance(got, dict) else vars(got).values()
    values = inner if isinstance(inner, dict) else vars(inner)
    torch.testing.assert_close(values, {"logits": (x + 1) * 2, "loss": None})
    torch.testing.assert_close(scale, x * 2)


def test_a_model_that_returns_no_tensor_gets_one_sentence():
    with pytest.raises(ModelError, match="returns no tensor"):
        tb.compile(Model(lambda a, b: (None, 3)), (torch.ones(2, 3),))
