"""ONNX models, made here by hand and checked against onnx's own evaluator or ONNX Runtime."""

import os
import subprocess
import sys

import numpy as np
import pytest

import tvm_balanced as tb
from tvm_balanced.cli.app import run
from tvm_balanced.errors import InputError, ModelError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

RNG = np.random.default_rng(0)
FC, BIAS, OUT = (RNG.standard_normal(shape, np.float32) for shape in ((32, 64), (32,), (32, 8)))
FC[:, np.arange(64) % 16 >= 2] = 0


def made(nodes, weights, inputs=(("x", TensorProto.FLOAT, ["batch", 64]),), outputs=(("y", TensorProto.FLOAT, ["batch", 8]),)):
    values = [[helper.make_tensor_value_info(*one) for one in side] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", *values, [numpy_helper.from_array(array, name) for name, array in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def mlp():
    nodes = [
        helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "out.weight"], ["y"]),
    ]
    return made(nodes, {"fc.weight": FC, "fc.bias": BIAS, "out.weight": OUT})


def expected(x):
    return np.maximum(x @ FC.T + BIAS, 0) @ OUT


@pytest.mark.slow
def test_a_file_compiles_with_its_names_zeros_and_open_batch(tmp_path):
    onnx.save(mlp(), tmp_path / "m.onnx")
    module = tb.compile(tmp_path / "m.onnx", threads=1)
    assert {layer.layer: layer.pattern for layer in module.report.layers}["fc"] == "2:16"
    assert str(module.facts.inputs[0]) == "x: float32[batch, 64]"
    x = RNG.standard_normal((3, 64), np.float32)
    np.testing.assert_allclose(module(x), expected(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(module(x=x[:1]), expected(x[:1]), rtol=1e-4, atol=1e-4)


def test_names_that_tvm_changes_are_no_warning(tmp_path, capfd, recwarn):
    nodes = [helper.make_node("MatMul", ["input.1", "out.weight"], ["y"])]
    onnx.save(made(nodes, {"out.weight": OUT}, (("input.1", TensorProto.FLOAT, [4, 32]),)), tmp_path / "m.onnx")
    assert run(["compile", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "m.tb"), "--threads", "1"]) == 0
    said = capfd.readouterr()
    assert "PyTorch" not in said.err
    assert "largest difference to the original model" in said.out
    assert "Renaming" not in said.err
    assert not [w for w in recwarn if "Renaming" in str(w.message)]
    assert tb.load(tmp_path / "m.tb").facts.inputs[0].name == "input_1"


def test_examples_fix_open_sizes():
    x = RNG.standard_normal((4, 64), np.float32)
    module = tb.compile(mlp(), (x,), threads=1)
    assert str(module.facts.inputs[0]) == "x: float32[4, 64]"
    np.testing.assert_allclose(module(x), expected(x), rtol=1e-4, atol=1e-4)


def test_ids_of_a_table_and_several_outputs(tmp_path):
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("MatMul", ["e", "w"], ["y"]),
        helper.make_node("ReduceMean", ["e"], ["mean"], axes=[1], keepdims=0),
    ]
    table, w = RNG.standard_normal((20, 64), np.float32), RNG.standard_normal((64, 8), np.float32)
    ids = (("ids", TensorProto.INT64, [2, 5]),)
    outputs = (("y", TensorProto.FLOAT, [2, 5, 8]), ("mean", TensorProto.FLOAT, [2, 64]))
    module = tb.compile(made(nodes, {"table": table, "w": w}, ids, outputs), threads=1)
    given = RNG.integers(0, 20, (2, 5))
    y, mean = module(given)
    np.testing.assert_allclose(y, table[given] @ w, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mean, table[given].mean(1), rtol=1e-4, atol=1e-4)


def external(folder, location, length=None):
    proto = mlp()
    tensor = proto.graph.initializer[0]
    data = tensor.raw_data
    (folder / "weights.bin").write_bytes(data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(length or len(data))}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (folder / "m.onnx").write_bytes(proto.SerializeToString())


def test_weights_beside_the_file(tmp_path):
    external(tmp_path, "weights.bin")
    assert tb.inspect(tmp_path / "m.onnx").layers[0].pattern == "2:16"


def unsupported(folder):
    node = helper.make_node("Mystery", ["x"], ["y"])
    (folder / "m.onnx").write_bytes(made([node], {}).SerializeToString())


def truncated(folder):
    onnx.save(mlp(), folder / "m.onnx")
    os.truncate(folder / "m.onnx", 900)


def linked(folder):
    external(folder, "weights.bin")
    (folder / "weights.bin").rename(folder.parent / "elsewhere.bin")
    (folder / "weights.bin").symlink_to(folder.parent / "elsewhere.bin")


DAMAGE = {
    "outside, by dots": (lambda f: external(f, "../weights.bin"), "outside its own folder"),
    "outside, absolute": (lambda f: external(f, "/etc/passwd"), "outside its own folder"),
    "outside, by a link": (linked, "outside its own folder"),
    "missing": (lambda f: external(f, "nothing.bin"), "is missing, where m.onnx has its weights"),
    "too short": (lambda f: external(f, "weights.bin", 10**6), "is shorter than m.onnx says"),
    "truncated": (truncated, "is not a readable ONNX model"),
    "empty": (lambda f: (f / "m.onnx").write_bytes(b""), "is not a readable ONNX model"),
    "unknown operator": (unsupported, "does not know the operators Mystery"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_gets_one_sentence_and_leaves_nothing(tmp_path, case, capfd):
    damage, message = DAMAGE[case]
    folder = tmp_path / "model"
    folder.mkdir()
    damage(folder)
    with pytest.raises(ModelError, match=message) as error:
        tb.inspect(folder / "m.onnx")
    assert "\n" not in str(error.value)
    capfd.readouterr()
    assert run(["compile", str(folder / "m.onnx"), "-o", str(tmp_path / "m.tb")]) == 1
    assert not (tmp_path / "m.tb").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((np.zeros((2, 64), np.float32),) * 2, "2 examples were given; the model takes 1"),
        ((np.zeros((2, 63), np.float32),), r"the example for x is float32\[2, 63\]"),
        ((np.zeros((2, 64)),), r"the example for x is float64"),
        (([[1.0]],), "an example is list"),
    ],
)
def test_examples_that_do_not_fit_get_one_sentence(args, message):
    with pytest.raises(InputError, match=message):
        tb.inspect(mlp(), args)


@pytest.mark.slow
def test_it_needs_no_torch(tmp_path):
    onnx.save(mlp(), tmp_path / "m.onnx")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, tvm_balanced as tb\n"
        "module = tb.compile(sys.argv[1], threads=1)\n"
        "print(module(np.ones((2, 64), np.float32)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "m.onnx"], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(2, 8)", done.stderr
