import json
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

from tvm_balanced.core.structure import check_pairs, check_tree, collect, loaded_class, of_fields, rebuild, tensors_of
from tvm_balanced.errors import InputError

Pair = namedtuple("Pair", "mean spread")


@dataclass
class Result:
    logits: object
    loss: object = None


TREE = {
    "tuple": [
        {"tensor": 1},
        {"dict": [["a", {"tensor": 0}], [3, {"list": [{"value": None}, {"value": 2.5}]}]]},
        {"class": f"{__name__}.Result", "fields": [["logits", {"tensor": 2}], ["loss", {"value": None}]]},
    ]
}


def test_a_tree_survives_json_and_is_rebuilt_with_plain_dicts_for_classes():
    tree = json.loads(json.dumps(TREE))
    check_tree(tree, 3)
    assert rebuild(tree, "xyz") == ("y", {"a": "x", 3: [None, 2.5]}, {"logits": "z", "loss": None})
    assert list(tensors_of(tree)) == [1, 0, 2]
    assert rebuild(tree, "xyz", lambda name: Result)[2] == Result("z")


def test_only_loaded_classes_of_named_fields_are_found(monkeypatch):
    assert of_fields(Result) is Result
    assert of_fields(Pair) is Pair
    assert of_fields(dict) is None
    assert loaded_class("subprocess.Popen") is None
    assert loaded_class("not_loaded_anywhere.Result") is None
    import dataclasses
    import sys

    monkeypatch.setitem(sys.modules, "made_up", type(dataclasses)("made_up"))
    monkeypatch.setattr(sys.modules["made_up"], "Result", Result, raising=False)
    assert loaded_class("made_up.Result") is Result


NAMES = ["x", "h", "c"]
STATE = {"tuple": [{"tensor": 1}, {"tensor": 2}]}


@pytest.mark.parametrize("value", [(1, 2), [1, 2]])
def test_tuples_and_lists_are_taken_for_each_other(value):
    found = {}
    collect(STATE, value, "state", NAMES, found)
    assert found == {1: 1, 2: 2}


@pytest.mark.parametrize("value", [Result(5), {"logits": 5}, {"logits": 5, "loss": None}])
def test_classes_are_taken_by_their_fields(value):
    found = {}
    collect(TREE["tuple"][2], value, "out", ["a", "b", "logits"], found)
    assert found == {2: 5}


@pytest.mark.parametrize(
    ("tree", "value", "message"),
    [
        (STATE, (1,), "state has 1 parts; the model takes 2: h, c"),
        (STATE, (1, 2, 3), "state has 3 parts"),
        (STATE, np.ones(2), "state is a ndarray; the model takes a tuple of h, c"),
        (STATE, None, "state is None; the model takes a tuple"),
        ({"dict": [["a", {"tensor": 0}]]}, {"b": 1}, "a dict with b was given where the model takes x"),
        ({"value": None}, 3, "state is 3, and was fixed to None when the model was compiled; compile it again"),
        ({"value": True}, 1, "fixed to True"),
        ({"value": 1}, True, "fixed to 1"),
        ({"value": 1}, "1", "fixed to 1"),
        ({"value": 0.5}, np.ones(1), "state is a ndarray, and was fixed to 0.5"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(tree, value, message):
    with pytest.raises(InputError, match=message) as error:
        collect(tree, value, "state", NAMES, {})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "text", float("nan")])
def test_the_same_value_is_taken(value):
    collect({"value": value}, value, "x", NAMES, {})
    assert rebuild({"value": value}, ()) is value


def nested(depth):
    tree = {"tensor": 0}
    for _ in range(depth):
        tree = {"list": [tree]}
    return tree


@pytest.mark.parametrize(
    "tree",
    [
        3,
        {},
        {"tensor": 3},
        {"tensor": True},
        {"tensor": -1},
        {"tensor": 0, "value": 1},
        {"value": [1]},
        {"tuple": {"tensor": 0}},
        {"dict": [["a"]]},
        {"dict": [["a", {"tensor": 0}], ["a", {"tensor": 0}]]},
        {"dict": [[["a"], {"tensor": 0}]]},
        {"class": 3, "fields": []},
        {"class": "a.B", "fields": [[1, {"tensor": 0}]]},
        nested(60),
    ],
)
def test_what_is_no_tree_is_refused(tree):
    with pytest.raises(ValueError, match="a structure"):
        check_tree(tree, 3)


def test_a_call_names_each_parameter_once():
    check_pairs([["x", {}], ["y", {}]])
    with pytest.raises(ValueError, match="each of another name"):
        check_pairs([["x", {}], ["x", {}]])
