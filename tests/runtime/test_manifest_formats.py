import json

import pytest
import torch
from torch.utils import _pytree as pytree

from tvm_balanced.core.structure import rebuild
from tvm_balanced.runtime.manifest_formats import FORMAT, upgraded


def manifest(structure, outputs=2):
    entry = {"inputs": [], "outputs": [{}] * outputs, "ranges": {}, "structure": structure, "donate": {}, "weights": []}
    return {"format": 3, "entry_points": {"main": entry}}


@pytest.mark.parametrize("result", [("a", ("b",)), ["a", "b"], {"y": "a", "x": ["b"]}, {2: "a", 1: "b"}])
def test_texts_of_torch_become_the_same_nesting(result):
    text = pytree.treespec_dumps(pytree.tree_structure(result))
    entry = upgraded(manifest(text))["entry_points"]["main"]
    assert entry["call"] is None
    assert rebuild(entry["result"], "ab") == result
    assert "structure" not in entry


def test_classes_of_transformers_become_their_fields():
    from transformers.modeling_outputs import BaseModelOutput

    output = BaseModelOutput(last_hidden_state=torch.ones(1), hidden_states=(torch.ones(1),))
    text = pytree.treespec_dumps(pytree.tree_structure(output))
    tree = upgraded(manifest(text))["entry_points"]["main"]["result"]
    assert tree["class"] == "transformers.modeling_outputs.BaseModelOutput"
    assert rebuild(tree, "ab") == {"last_hidden_state": "a", "hidden_states": ("b",)}


def test_format_2_gets_its_entry_point():
    old = {"format": 2, "inputs": [], "outputs": [{}], "ranges": {}, "structure": None, "weights": [1, 2]}
    new = upgraded(old)
    assert new["format"] == FORMAT
    assert new["entry_points"]["main"]["weights"] == [0, 1]
    assert upgraded({"format": 2, "variants": ["a"]}) == {"format": FORMAT, "variants": ["a"], "sha256": {}}


@pytest.mark.parametrize(
    "structure",
    [3, "{", "[1]", "[1, {}]", json.dumps([1, {"type": None}]), json.dumps([1, {"type": "builtins.list", "children_spec": [3]}])],
)
def test_a_damaged_structure_is_refused(structure):
    with pytest.raises((KeyError, TypeError, ValueError, IndexError, AttributeError)):
        upgraded(manifest(structure))
