"""A compiled module returns the same as its model, with any nesting."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import tvm_balanced as tb
from tvm_balanced.errors import InputError

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
    "ordered dict": (lambda a, b: OrderedDict(b=b, a=a), ["b", "a"]),
    "nested tuples": (lambda a, b: (a, (b, (a,))), ["output_0", "output_1_0", "output_1_1_0"]),
    "dataclass": (lambda a, b: Result(a, [b]), ["logits", "hidden_0"]),
    "names that clash": (lambda a, b: {"a_0": a, "a": [b]}, ["output_0", "output_1"]),
}


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
        arrays = compiled(x.numpy())
        flat = arrays if isinstance(arrays, tuple) else (arrays,)
        torch.testing.assert_close([torch.from_numpy(a) for a in flat], pytree.tree_leaves(want))


def test_outputs_of_transformers_are_its_own_class():
    from transformers.modeling_outputs import BaseModelOutput

    model, x = Model(lambda a, b: BaseModelOutput(last_hidden_state=a, hidden_states=(b,))), torch.ones(2, 3)
    got = tb.compile(model, (x,))(x)
    assert isinstance(got, BaseModelOutput)
    torch.testing.assert_close(got.hidden_states[0], x * 2)


def test_a_structure_that_cannot_be_written_down_comes_flat():
    x = torch.ones(2, 3)
    module = tb.compile(Model(Pair), (x,))
    assert type(module(x)) is tuple
    assert [spec.name for spec in module.facts.outputs] == ["mean", "spread"]


def test_a_class_that_is_not_loaded_gets_one_sentence(monkeypatch):
    x = torch.ones(2, 3)
    module = tb.compile(Model(lambda a, b: Result(a, [b, a])), (x,))
    monkeypatch.delitem(pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE, "test_outputs.Result")
    with pytest.raises(InputError, match=r"test_outputs\.Result.*import the module") as error:
        module(x)
    assert "\n" not in str(error.value)
    assert len(module(x.numpy())) == 3
