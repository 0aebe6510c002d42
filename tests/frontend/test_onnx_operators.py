"""Recurrent layers of ONNX beside torch's, whose weights lie in another order."""

import numpy as np
import pytest
import torch
from torch import nn

from tvm_balanced.compiler.compile import CompileOptions, compile_imported
from tvm_balanced.errors import ModelError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tvm_balanced.frontend.onnx import import_onnx  # noqa: E402

STEPS, BATCH, INPUTS, HIDDEN = 5, 2, 32, 32
ROWS = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2], "RNN": [0]}  # of torch's gates, in the order of ONNX


def model(nodes, stored, outputs, states=()):
    """A model of x and first states, with stored weights."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [STEPS, BATCH, INPUTS])]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in states]
    given = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "recurrent", inputs, [helper.make_empty_tensor_value_info(name) for name in outputs], given)
    return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))


def weights(layer, kind, reverse=False):
    """W, R and B of a layer of torch in one direction or both, as ONNX stores them."""

    def part(name, ending):
        rows = getattr(layer, f"{name}_l0{ending}").detach()
        return rows.reshape(len(ROWS[kind]), HIDDEN, *rows.shape[1:])[ROWS[kind]].reshape(rows.shape)

    endings = ["", "_reverse"] if layer.bidirectional else [""]
    w, r = (np.stack([part(name, ending).numpy() for ending in endings]) for name in ("weight_ih", "weight_hh"))
    b = np.stack([torch.cat([part("bias_ih", ending), part("bias_hh", ending)]).numpy() for ending in endings])
    return w, r, b


def named(kind, values):
    return {f"{kind}_{name}": value for name, value in zip("wrb", values, strict=True)}


def node(kind, states=(), **attrs):
    inputs = ["x", *(f"{kind}_{name}" for name in "wrb"), *(["", *states] if states else [])]
    return helper.make_node(kind, inputs, [f"{kind}_y", f"{kind}_h"], hidden_size=HIDDEN, **attrs)


@pytest.mark.slow
def test_recurrent_layers_are_torchs():
    torch.manual_seed(0)
    lstm, gru = nn.LSTM(INPUTS, HIDDEN, bidirectional=True), nn.GRU(INPUTS, HIDDEN)
    rnn = nn.RNN(INPUTS, HIDDEN, nonlinearity="relu")
    stored = {
        name: value
        for kind, layer in (("LSTM", lstm), ("GRU", gru), ("RNN", rnn))
        for name, value in named(kind, weights(layer, kind)).items()
    }
    nodes = [
        node("LSTM", ("h", "c"), direction="bidirectional"),
        node("GRU", linear_before_reset=1, direction="reverse"),
        node("RNN", activations=["Relu"]),
    ]
    outputs = ["LSTM_y", "LSTM_h", "GRU_y", "RNN_y"]
    states = [("h", [2, BATCH, HIDDEN]), ("c", [2, BATCH, HIDDEN])]
    x, h, c = torch.randn(STEPS, BATCH, INPUTS), torch.randn(2, BATCH, HIDDEN), torch.randn(2, BATCH, HIDDEN)

    def reference(arrays):
        """In torch and in float64; y has an axis of directions behind the steps."""
        x, h, c = (torch.from_numpy(array).double() for array in arrays)
        with torch.no_grad():
            y, (last, _) = lstm.double()(x, (h, c))
            backwards = gru.double()(x.flip(0))[0].flip(0)
            forwards = rnn.double()(x)[0]
        y = y.reshape(STEPS, BATCH, 2, HIDDEN).transpose(1, 2)
        return [part.float().numpy() for part in (y, last, backwards[:, None], forwards[:, None])]

    imported = import_onnx(model(nodes, stored, outputs, states), (x, h, c))
    imported.main.reference = reference  # onnx's own evaluator has not all of them
    module = compile_imported(imported, CompileOptions(threads=1, logs=False))
    want = reference([x.numpy(), h.numpy(), c.numpy()])
    for got, expected in zip(module(x.numpy(), h.numpy(), c.numpy()), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "attrs", "message"),
    [
        ("GRU", {}, "the operator GRU: it resets before its product; export it with linear_before_reset"),
        ("LSTM", {"clip": 1.0}, "the operator LSTM: it has activations, a layout or a clip of its own"),
        ("RNN", {"activations": ["Sigmoid"]}, "the operator RNN: it has activations, a layout or a clip of its own"),
    ],
)
def test_what_is_refused_is_named(kind, attrs, message, capsys):
    layer = getattr(nn, kind)(INPUTS, HIDDEN)
    with pytest.raises(ModelError) as error:
        import_onnx(
            model([node(kind, **attrs)], named(kind, weights(layer, kind)), [f"{kind}_y"]), (torch.ones(STEPS, BATCH, INPUTS),)
        )
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""  # TVM prints the operator's operands


def test_an_operator_that_tvm_stumbles_over_is_named():
    pads = helper.make_node("Pad", ["x", "p"], ["y"])
    graph = helper.make_graph(
        [pads],
        "pads",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]),
            helper.make_tensor_value_info("p", TensorProto.INT64, [4]),
        ],
        [helper.make_empty_tensor_value_info("y")],
    )
    with pytest.raises(ModelError, match=r"\(the operator Pad: Dynamic pads are not supported yet\.\)"):
        import_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))


def rows_and_places(step):
    """x (rows, 4) and the numbers of its rows; every second of them, twice, where TVM does not know how many these are."""
    stored = {"first": np.int64(0), "step": np.int64(step), "last": np.array([1], np.int64)}
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"], end=1),
        helper.make_node("Squeeze", ["sizes"], ["rows"]),
        helper.make_node("Range", ["first", "rows", "step"], ["places"]),
        helper.make_node("Concat", ["places"] * step, ["all"], axis=0),
        helper.make_node("Unsqueeze", ["all", "last"], ["column"]),
        helper.make_node("Add", ["x", "column"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rows",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["batch", 4])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def test_a_range_up_to_a_size_is_as_long_as_that():
    """As the rows of a mask that transformers looks up."""
    assert import_onnx(rows_and_places(1)).main.outputs[0].shape == ("batch", 4)


def test_a_shape_that_only_examples_fix():
    with pytest.raises(ModelError, match="known only at the call; give example inputs, whose shapes fix it"):
        import_onnx(rows_and_places(2))
    assert import_onnx(rows_and_places(2), (np.ones((6, 4), np.int64),)).main.outputs[0].shape == (6, 4)
