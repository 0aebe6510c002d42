"""An ONNX model, which needs no PyTorch."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import tvm_balanced as tb


def main() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((32, 64), np.float32)
    weight[:, np.arange(64) % 16 >= 2] = 0  # 2 of every 16 stay
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight"], ["y"], transB=1)],
        "one_layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    module = tb.compile(model)  # or the path of a .onnx file
    print(module.report)
    x = rng.standard_normal((3, 64), np.float32)
    np.testing.assert_allclose(module(x), x @ weight.T, rtol=1e-4, atol=1e-4)
    print("ONNX: right")


if __name__ == "__main__":
    main()
