"""Every refusal of an ONNX model names a way that works: what it says is done here, and the model then goes in."""

import os
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
from support.advice import follow, goes_in

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tvm_balanced.frontend.onnx import import_onnx  # noqa: E402

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
WEIGHT = np.ones((4, 2), np.float32)
PRODUCT = helper.make_node("MatMul", ["x", "w"], ["y"])


def model(*nodes, shape=(3, 4), stored=(("w", WEIGHT),), opset=17, domains=(), inputs=()):
    """A model of x whose result is y."""
    values = [helper.make_tensor_value_info("x", FLOAT, shape), *(helper.make_tensor_value_info(*one) for one in inputs)]
    weights = [numpy_helper.from_array(value, name) for name, value in stored]
    graph = helper.make_graph(nodes or [PRODUCT], "g", values, [helper.make_empty_tensor_value_info("y")], weights)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def written(name, proto=None):
    onnx.save(model() if proto is None else proto, name)
    return name


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files():
    follow(lambda: goes_in("none.onnx"), "give a .onnx file", lambda: goes_in(written("m.onnx")))
    for damage in (lambda: os.truncate("m.onnx", 60), lambda: Path("m.onnx").write_bytes(b"")):
        damage()
        follow(lambda: goes_in("m.onnx"), "export it again", lambda: goes_in(written("m.onnx")))


def external(location="weights.bin", length=None, file="weights.bin"):
    """A file whose weight lies in a file of its own."""
    proto = model()
    tensor = proto.graph.initializer[0]
    Path(file).write_bytes(tensor.raw_data)
    for key, value in {"location": location, "length": str(length or len(tensor.raw_data))}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    Path("m.onnx").write_bytes(proto.SerializeToString())


def test_weights_beside_the_file():
    def copied_again():
        external()
        goes_in("m.onnx")

    external(length=10**6)
    follow(lambda: goes_in("m.onnx"), "copy all of its files again", copied_again)
    Path("weights.bin").unlink()
    follow(lambda: goes_in("m.onnx"), "copy all of its files", copied_again)
    Path("deeper").mkdir()
    os.chdir("deeper")
    external("../weights.bin", file="../weights.bin")
    said = "outside its own folder, which is not read; put that file beside it, and its name into the model"

    def put_beside():
        Path("../weights.bin").rename("weights.bin")
        proto = onnx.load("m.onnx", load_external_data=False)
        proto.graph.initializer[0].external_data[0].value = "weights.bin"
        Path("m.onnx").write_bytes(proto.SerializeToString())
        goes_in("m.onnx")

    follow(lambda: goes_in("m.onnx"), said, put_beside)


EXAMPLES = {
    "too many": ((X, X), "the model takes 1: x"),
    "of another shape": ((X[:, :3],), "the model takes float32[3, 4]"),
    "of another dtype": ((X.astype(np.float64),), "the model takes float32[3, 4]"),
    "a list": ((X.tolist(),), "give NumPy arrays, torch tensors or numbers"),
}


@pytest.mark.parametrize("case", EXAMPLES)
def test_examples(case):
    args, said = EXAMPLES[case]
    follow(lambda: goes_in(model(), *args), said, lambda: goes_in(model(), X))


def test_what_does_not_go_with_an_onnx_model():
    follow(
        lambda: goes_in(model(), kwargs={"x": X}),
        "takes its examples as args, in the order of its inputs; give them there",
        lambda: goes_in(model(), X),
    )
    follow(
        lambda: goes_in(model(), weights="w.pt"),
        "--weights goes with package.module:factory, and weights= with a module",
        lambda: goes_in(model()),
    )
    follow(lambda: goes_in(model(), dynamic_batch=True), "--dynamic-batch goes with", lambda: goes_in(model(shape=("batch", 4))))


def test_donation():
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    follow(
        lambda: goes_in(model(*nodes), donate={"x": "z"}),
        "the model has y: float32[3, 4]",
        lambda: goes_in(model(*nodes), donate={"x": "y"}),
    )
    follow(
        lambda: goes_in(model(), donate={"x": "y"}),
        "donate inputs of the output's shape and dtype",
        lambda: goes_in(model(*nodes), donate={"x": "y"}),
    )


def test_onnx_is_not_installed(monkeypatch):
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(line.startswith("onnx>=") for line in extras["onnx"])
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)
        follow(lambda: goes_in("m.onnx"), "pip install 'tvm-balanced[onnx]'", lambda: None)
    goes_in(model())


def operators(*nodes, **about):
    return lambda: goes_in(model(*nodes, **about))


CELU = [helper.make_node("Celu", ["x"], ["y"], alpha=2.0)]
SWISH = [helper.make_node("Swish", ["x"], ["y"])]
ARRAY = numpy_helper.from_array(np.array([0, 1, 0, 1], np.int64))
OPERATORS = {
    "other operators": (
        operators(*CELU),
        "does not know the operators Celu); export it with other operators",
        operators(
            helper.make_node("Div", ["x", "two"], ["half"]),
            helper.make_node("Elu", ["half"], ["grown"]),
            helper.make_node("Mul", ["grown", "two"], ["negative"]),
            helper.make_node("Max", ["x", "negative"], ["y"]),
            stored=[("two", np.float32(2))],
        ),
    ),
    "a lower opset": (
        operators(*SWISH, opset=24),
        "does not know the operators Swish); export it with other operators or a lower opset",
        operators(helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"])),
    ),
    "an operand that is computed": (
        operators(helper.make_node("Pad", ["x", "p"], ["y"]), inputs=[("p", INT, [4])]),
        "(the operator Pad: Dynamic pads are not supported yet.); export it with other operators",
        operators(helper.make_node("Constant", [], ["p"], value=ARRAY), helper.make_node("Pad", ["x", "p"], ["y"])),
    ),
}


@pytest.mark.parametrize("case", OPERATORS)
def test_operators(case):
    follow(*OPERATORS[case])


STEPS, HIDDEN = 3, 4


def recurrent(kind="GRU", computed=False, extra=(), **attrs):
    """A recurrent layer of x (steps, batch, inputs)."""
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[kind]
    stored = [(name, np.ones((1, gates * HIDDEN, HIDDEN), np.float32)) for name in "wr"]
    nodes = [helper.make_node("Mul", ["r", "x"], ["rr"])] if computed else []
    names = ["x", "w", "rr" if computed else "r", *(["", *extra] if extra else [])]
    nodes.append(helper.make_node(kind, names, ["y"], hidden_size=HIDDEN, **attrs))
    stored += [("lengths", np.full(1, STEPS, np.int32))]
    return lambda: goes_in(model(*nodes, shape=(1, 1, HIDDEN) if computed else (STEPS, 1, HIDDEN), stored=stored))


RECURRENT = {
    "before its product": (
        recurrent(),
        "export it with linear_before_reset",
        recurrent(linear_before_reset=1),
    ),
    "a clip": (recurrent("LSTM", clip=1.0), "export torch's layer as it is", recurrent("LSTM")),
    "lengths": (recurrent("LSTM", extra=["lengths"]), "export it without", recurrent("LSTM")),
    "weights that are computed": (recurrent("RNN", computed=True), "store them", recurrent("RNN")),
}


@pytest.mark.parametrize("case", RECURRENT)
def test_recurrent_layers(case):
    follow(*RECURRENT[case])


def test_a_model_that_nothing_can_check(monkeypatch):
    """Here onnx's evaluator lacks an operator of ONNX Runtime, which is installed then."""
    proto = model(helper.make_node("FastGelu", ["x"], ["y"], domain="com.microsoft"), domains=["com.microsoft"])

    class InferenceSession:
        def __init__(self, *_args, **_kwargs):
            pass

        def run(self, _names, feed):
            return [feed["x"]]

    runtime = types.ModuleType("onnxruntime")
    runtime.SessionOptions, runtime.InferenceSession = types.SimpleNamespace, InferenceSession
    runtime.__spec__ = types.SimpleNamespace()

    def check():
        import_onnx(proto, (X,)).main.reference([X])

    def install():
        monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
        check()

    monkeypatch.setattr("tvm_balanced.frontend.onnx._checker", lambda: "ONNX Runtime" if "onnxruntime" in sys.modules else "")
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    follow(check, "so it cannot be checked; pip install onnxruntime, which checks it then", install)
