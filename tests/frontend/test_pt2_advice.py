"""Every refusal of a .pt2 file, or of an exported program, names a way that works: what it says is done here, and it goes in."""

import functools
import os
import pickle
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from support.advice import Forward, follow, goes_in
from torch import nn
from torch.utils import _pytree as pytree

from tvm_balanced.frontend.pt2 import load_pt2, save_pt2
from tvm_balanced.frontend.state_dict import save_weights

X = torch.linspace(-1, 1, 16).reshape(4, 4)


@functools.cache
def linear():
    return torch.export.export(nn.Linear(4, 4).eval(), (X,))


def exported(function, *args, **options):
    return torch.export.export(Forward(function, 4).eval(), args or (X,), **options)


def written(name="m.pt2", program=None):
    torch.export.save(linear() if program is None else program, name)
    return name


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("advised.py").write_text("import torch\ndef model(): return torch.nn.Linear(4, 4), (torch.ones(2, 4),)\n")
    yield tmp_path
    sys.modules.pop("advised", None)


def factory(**options):
    sys.modules.pop("advised", None)
    goes_in("advised:model", **options)


def test_files_that_are_missing_or_damaged():
    said = "give a .pt2 of torch.export.save, a folder of transformers (nothing is downloaded), or package.module:factory"
    follow(lambda: goes_in("none.pt2"), said, lambda: goes_in(written()))
    os.truncate("m.pt2", 300)
    follow(lambda: goes_in("m.pt2"), "write it again with torch.export.save", lambda: goes_in(written()))
    Path("plain").mkdir()
    said = "give one that save_pretrained of transformers wrote, a .pt2 that torch.export.save wrote, or package.module:factory"
    follow(lambda: goes_in("plain"), said, factory)


def test_files_of_other_kinds():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(nn.Linear(4, 4)).save("script.pt2")
    said = "a TorchScript program; export the nn.Module it was made from with torch.export.save"
    follow(lambda: goes_in("script.pt2"), said, lambda: goes_in(written()))
    torch.save(nn.Linear(4, 4), "module.pt2")
    said = "write a factory that loads it and returns (module, example arguments), and give package.module:factory"
    follow(lambda: goes_in("module.pt2"), said, factory)
    Path("model.gguf").write_bytes(b"GGUF" + bytes(60))
    follow(lambda: goes_in("model.gguf"), said, factory)
    torch.save(nn.Linear(4, 4).state_dict(), "state.pt2")
    save_weights(nn.Linear(4, 4), Path("w.safetensors"))
    for weights in ("state.pt2", "w.safetensors"):
        said = "give it as --weights beside package.module:factory"
        follow(lambda weights=weights: goes_in(weights), said, lambda weights=weights: factory(weights=weights))
    follow(lambda: goes_in("advised.py"), "give its name without .py and a callable in it, as module:factory", factory)


def test_a_file_that_would_run_code():
    """Its examples are replaced by a pickle that calls a function."""

    class Calls:
        def __reduce__(self):
            return (print, ("run",))

    with zipfile.ZipFile(written()) as source, zipfile.ZipFile("evil.pt2", "w") as out:
        for name in source.namelist():
            is_examples = name.endswith("sample_inputs/model.pt")
            out.writestr(name, pickle.dumps(Calls(), protocol=0) if is_examples else source.read(name))
    said = "give a file whose inputs and constants are plain tensors, or load it yourself with torch.export.load"
    follow(lambda: goes_in("evil.pt2"), said, lambda: goes_in("m.pt2"))
    goes_in(torch.export.load("m.pt2"))


class Pair:
    def __init__(self, a, b):
        self.a, self.b = a, b


def register():
    pytree.register_pytree_node(
        Pair,
        lambda pair: ([pair.a, pair.b], None),
        lambda parts, _: Pair(*parts),
        serialized_type_name="mine.Pair",
        to_dumpable_context=lambda _: "",
        from_dumpable_context=lambda _: None,
    )


def test_a_class_that_is_not_known():
    register()
    written("pair.pt2", exported(lambda y: Pair(y, y + 1)))
    pytree._deregister_pytree_node(Pair)
    said = "import the module it is in before, or let the model return a tuple or a dict"
    try:
        follow(lambda: goes_in("pair.pt2"), said, lambda: (register(), goes_in("pair.pt2")))
    finally:
        pytree._deregister_pytree_node(Pair)
    goes_in(written("tuple.pt2", exported(lambda y: (y, y + 1))))
    goes_in(written("dict.pt2", exported(lambda y: {"a": y, "b": y + 1})))


GOES_WITH_OTHERS = {
    "kwargs": ({"kwargs": {"input": X}}, "args, kwargs, dynamic_shapes and entry_points go with a module", {}),
    "weights": ({"weights": "w.pt"}, "weights= with a module", {"weights": "w.pt"}),
    "masks": ({"masks": "masks.pt"}, "masks go with a module, a factory and weights", {"weights": "w.pt", "masks": "masks.pt"}),
    "dynamic_batch": ({"dynamic_batch": True}, "--dynamic-batch goes with package.module:factory", {"dynamic_batch": True}),
}


@pytest.mark.parametrize("case", GOES_WITH_OTHERS)
def test_what_does_not_go_with_a_program(case):
    given, said, goes = GOES_WITH_OTHERS[case]
    torch.save(nn.Linear(4, 4).state_dict(), "w.pt")
    torch.save({"weight": X > 0}, "masks.pt")
    written()
    for program in ("m.pt2", linear()):
        follow(lambda program=program: goes_in(program, **given), said, lambda: factory(**goes))
    goes_in(nn.Linear(4, 4), **({"kwargs": {"input": X}} if case == "kwargs" else {"kwargs": {"input": X}} | goes))


def test_a_place_that_cannot_be_written():
    follow(lambda: save_pt2(linear(), "no/such/folder.pt2"), "choose another place", lambda: save_pt2(linear(), "here.pt2"))
    load_pt2("here.pt2")


def test_donation():
    follow(
        lambda: goes_in(linear(), donate={"input": "y"}),
        "the model has output_0: float32[4, 4]",
        lambda: goes_in(linear(), donate={"input": "output_0"}),
    )


def written_to(y, state):
    return y + state.add_(1)


PROGRAMS = {
    "a size that changes": (
        lambda: exported(lambda y, n: y * n, X, 3, dynamic_shapes={"x": None, "rest": (torch.export.Dim.DYNAMIC,)}),
        "give a tensor, or let it be static",
        lambda: exported(lambda y, n: y * n, X, 3),
    ),
    "a size that changes, as a tensor": (
        lambda: exported(lambda y, n: y * n, X, 3, dynamic_shapes={"x": None, "rest": (torch.export.Dim.DYNAMIC,)}),
        "give a tensor",
        lambda: exported(lambda y, n: y * n, X, torch.tensor(3)),
    ),
    "no tensor": (lambda: exported(lambda y: 3), "let it return what is to be computed", lambda: exported(lambda y: y)),
    "a size as an output": (
        lambda: exported(lambda y: (y, y.shape[0]), dynamic_shapes={"x": {0: torch.export.Dim("n")}}),
        "wrap the module in one that returns its tensors alone",
        lambda: exported(lambda y: y, dynamic_shapes={"x": {0: torch.export.Dim("n")}}),
    ),
    "an input that is written to": (
        lambda: exported(written_to, X, torch.zeros(4, 4)),
        "return it, or work on a copy",
        lambda: exported(lambda y, state: written_to(y, state.clone()), X, torch.zeros(4, 4)),
    ),
    "an input that is written to, returned": (
        lambda: exported(written_to, X, torch.zeros(4, 4)),
        "return it",
        lambda: exported(lambda y, state: (written_to(y, state), state), X, torch.zeros(4, 4)),
    ),
    "a dtype": (
        lambda: exported(lambda y, z: y + z.real, X, X.to(torch.complex64)),
        "input rest_0 is complex64, which no compiled code has; convert it to one of float32",
        lambda: exported(lambda y, z: y + z, X, X),
    ),
    "random numbers": (
        lambda: exported(lambda y: y + torch.randn_like(y)),
        "draw them outside and give them as an input",
        lambda: exported(lambda y, drawn: y + drawn, X, torch.randn(4, 4)),
    ),
    "an operator": (
        lambda: exported(lambda y: torch.special.digamma(y.abs() + 9)),
        "write it in other operators",
        lambda: exported(lambda y: torch.log(y.abs() + 9) - 0.5 / (y.abs() + 9)),
    ),
    "as many as the values say": (
        lambda: exported(lambda y: y[y > 0].sum()),
        "keep all, and choose by torch.where",
        lambda: exported(lambda y: torch.where(y > 0, y, 0).sum()),
    ),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_programs(case):
    refused, said, advised = PROGRAMS[case]
    program = refused()
    follow(lambda: goes_in(program), said, lambda: goes_in(advised()))


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count.add_(1)
        return x * self.count


def test_state_is_returned():
    follow(
        lambda: goes_in(torch.export.export(Counter(), (X,))),
        "a compiled module keeps no state: return it instead",
        lambda: goes_in(exported(lambda y, count: (y * (count + 1), count + 1), X, torch.zeros(1))),
    )


def test_files_of_this_package_and_of_onnx():
    """An artifact, and a folder's config: what they say is their own command, which takes them."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(proto, "m.onnx")
    follow(
        lambda: goes_in(nn.Linear(4, 4), X, weights="m.onnx"),
        "give the state dict of the nn.Module it was made from",
        lambda: (torch.save(nn.Linear(4, 4).state_dict(), "w.pt"), goes_in(nn.Linear(4, 4), X, weights="w.pt")),
    )
    goes_in("m.onnx")
