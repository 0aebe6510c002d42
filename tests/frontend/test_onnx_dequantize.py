"""ONNX models in QDQ form: their weights are found, and a kernel of 8 bits computes with the integers that they store."""

import numpy as np
import pytest

import tvm_balanced as tb
from tvm_balanced.schedules.layouts.rounded_weight import round_weight

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tvm_balanced.frontend.onnx_dequantize import dequantised  # noqa: E402

K, N = 64, 48


def weight(rng):
    """Integers (K, N), pruned to 4:16 along K, that leave room above, and a scale for each column."""
    numbers = rng.integers(-100, 101, (K, N)).astype(np.int8)
    numbers[np.arange(K) % 16 >= 4] = 0
    numbers[:2] = np.array([37, 8])[:, None]
    return numbers, rng.uniform(0.01, 0.1, N).astype(np.float32)


def model(numbers, scales, zero=None, axis=1, rounds_x=False):
    nodes, x = [], "x"
    if rounds_x:
        pairs = (("QuantizeLinear", "x", "xq"), ("DequantizeLinear", "xq", "xd"))
        nodes += [helper.make_node(kind, [value, "of_x"], [made]) for kind, value, made in pairs]
        x = "xd"
    points = [] if zero is None else ["zero"]
    nodes += [
        helper.make_node("DequantizeLinear", ["fc.weight_quantized", "scales", *points], ["wd"], axis=axis),
        helper.make_node("MatMul", [x, "wd"], ["y"]),
    ]
    stored = {"fc.weight_quantized": numbers, "scales": scales, "of_x": np.float32(0.02)} | (
        {} if zero is None else {"zero": zero}
    )
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, K])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, N])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(np.asarray(a), n) for n, a in stored.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


@pytest.mark.parametrize("rounds_x", [False, True])
def test_the_weight_is_found_and_its_scales_are_used(rounds_x, rng):
    numbers, scales = weight(rng)
    x = rng.standard_normal((4, K)).astype(np.float32)
    module = tb.compile(model(numbers, scales, rounds_x=rounds_x), (x,), kernels={"*": "cpu_dense_i8"}, threads=1)
    assert [(layer.layer, layer.kernel) for layer in module.report.layers] == [("fc", "cpu_dense_i8")]
    assert module.report.layers[0].sparsity > 0.7
    kept, found, _ = round_weight(plain(model(numbers, scales))["fc.weight"].T)
    np.testing.assert_array_equal(kept, numbers.T)
    np.testing.assert_allclose(found, scales, rtol=1e-6)


def plain(proto):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in dequantised(proto).graph.initializer}


def test_zero_points_one_scale_and_rows(rng):
    numbers, scales = weight(rng)
    zero = rng.integers(-5, 6, N).astype(np.int8)
    want = (numbers.astype(np.float32) - zero) * scales
    np.testing.assert_array_equal(plain(model(numbers, scales, zero))["fc.weight"], want)
    np.testing.assert_array_equal(plain(model(numbers, np.float32(0.5)))["fc.weight"], numbers * np.float32(0.5))
    rows = rng.uniform(0.01, 0.1, K).astype(np.float32)
    np.testing.assert_array_equal(plain(model(numbers, rows, axis=0))["fc.weight"], numbers * rows[:, None])


def test_what_is_no_stored_weight_stays(rng):
    numbers, scales = weight(rng)
    wrong = model(numbers, scales[:-1])  # the importer says what is wrong
    assert dequantised(wrong) is wrong
    shown = model(numbers, scales)
    shown.graph.output.append(helper.make_tensor_value_info("wd", TensorProto.FLOAT, [K, N]))
    assert dequantised(shown) is shown
