import io
import json
import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.pt2 import load_pt2


class Touch:
    """A pickle of this runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def torch_saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.fixture
def good(tmp_path):
    model, batch = nn.Sequential(nn.Linear(64, 32), nn.ReLU()).eval(), torch.export.Dim("batch")
    torch.export.save(torch.export.export(model, (torch.randn(3, 64),), dynamic_shapes=({0: batch},)), tmp_path / "good.pt2")
    return tmp_path / "good.pt2"


def altered(good, change):
    """A copy of the file in which `change` gives a part's new content for its name and content."""
    evil = good.with_name("evil.pt2")
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(evil, "w") as out:
        for name in source.namelist():
            out.writestr(name, change(name, source.read(name)))
    return evil


def refused(path, said, mark):
    for use in (load_pt2, tb.inspect, tb.compile):
        with pytest.raises(ModelError, match=said) as error:
            use(path)
        assert "\n" not in str(error.value)
        assert not mark.exists()


@pytest.mark.parametrize("old", [True, False], ids=["one pickle", "a zip of pickles"])
def test_example_inputs_that_run_code_are_refused(good, tmp_path, old):
    mark = tmp_path / "PWNED"
    content = pickle.dumps(Touch(mark), protocol=0) if old else torch_saved(Touch(mark))
    refused(
        altered(good, lambda name, was: content if name.endswith("sample_inputs/model.pt") else was),
        "would run a pickle|would run (posix|nt).system",
        mark,
    )


def test_weights_and_constants_in_pickles_are_refused(good, tmp_path):
    mark = tmp_path / "PWNED"

    def pickled(name, was):
        if name.endswith("weights/weight_0"):
            return torch_saved(Touch(mark))
        if name.endswith("model_weights_config.json"):
            config = json.loads(was)
            next(iter(config["config"].values()))["use_pickle"] = True
            return json.dumps(config).encode()
        return was

    refused(altered(good, pickled), r"would run (posix|nt)\.system", mark)


def in_program(change):
    def edit(name, was):
        if not name.endswith("models/model.json"):
            return was
        return change(was.decode()).encode()

    return edit


def test_sizes_are_not_evaluated(good, tmp_path):
    mark = tmp_path / "PWNED"
    code = f"__import__('os').system('touch {mark}')"

    def change(text):
        program = json.loads(text)

        def walk(value):
            if isinstance(value, dict):
                if "expr_str" in value:
                    value["expr_str"] = code
                for inner in value.values():
                    walk(inner)
            elif isinstance(value, list):
                for inner in value:
                    walk(inner)

        walk(program)
        return json.dumps(program)

    refused(altered(good, in_program(change)), "would run the expression", mark)


@pytest.mark.parametrize(
    "target", ["torch.serialization.os.system", "_operator.methodcaller.__init__", "torch.ops.__class__", "math.__loader__"]
)
def test_an_operator_is_an_operator(good, tmp_path, target):
    mark = tmp_path / "PWNED"
    path = altered(good, in_program(lambda text: text.replace("torch.ops.aten.relu.default", target)))
    refused(path, "which is no operator", mark)


@pytest.mark.slow
def test_guards_of_a_file_are_not_run(good, tmp_path):
    mark = tmp_path / "PWNED"

    def change(text):
        program = json.loads(text)
        program["guards_code"] = [f"__import__('os').system('touch {mark}') == 0"]
        return json.dumps(program)

    tb.compile(altered(good, in_program(change)))
    assert not mark.exists()


def test_nothing_stays_guarded(good):
    before = torch.load, pickle.loads, torch._C._pickle_load_obj
    load_pt2(good)
    assert (torch.load, pickle.loads, torch._C._pickle_load_obj) == before
