"""Arithmetic on sizes, and branches that follow from it, are gone; what the model computes is the same."""

import numpy as np
import pytest

from tvm_balanced.compiler.compile import CompileOptions, compile_imported
from tvm_balanced.errors import InputError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from tvm_balanced.frontend.onnx import import_onnx  # noqa: E402
from tvm_balanced.frontend.onnx_folding import folded  # noqa: E402

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
X = np.arange(12, dtype=np.float32).reshape(3, 4)


def constant(name, *values):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(values, np.int64), name))


def model(nodes, shape=(3, 4), stored=(), output="y"):
    graph = helper.make_graph(
        nodes,
        "sizes",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info(output, FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in stored],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def kinds(proto):
    return sorted({node.op_type for node in proto.graph.node} - {"Constant"})


def same(proto, other, x=X):
    want, got = (ReferenceEvaluator(one).run(None, {"x": x})[0] for one in (proto, other))
    np.testing.assert_array_equal(got, want)


def pads():
    """(0, 1, 0, 1) by the arithmetic that torch's exporter writes."""
    return [
        constant("sides", 0, 1),
        helper.make_node("Shape", ["sides"], ["count"]),
        constant("two", 2),
        helper.make_node("Mul", ["count", "two"], ["all"]),
        helper.make_node("Sub", ["all", "count"], ["rest"]),
        helper.make_node("ConstantOfShape", ["rest"], ["zeros"], value=numpy_helper.from_array(np.zeros(1, np.int64))),
        helper.make_node("Add", ["zeros", "sides"], ["again"]),
        helper.make_node("Concat", ["again", "sides"], ["pads"], axis=0),
        helper.make_node("Pad", ["x", "pads"], ["y"]),
    ]


def test_arithmetic_on_constants():
    proto = model(pads())
    assert kinds(folded(proto)) == ["Pad"]
    same(proto, folded(proto))


def flattened(shape):
    return model(
        [
            helper.make_node("Shape", ["x"], ["sizes"]),
            constant("first", 0),
            helper.make_node("Gather", ["sizes", "first"], ["rows"], axis=0),
            constant("rest", -1),
            helper.make_node("Concat", ["rows", "rest"], ["flat"], axis=0),
            helper.make_node("Reshape", ["x", "flat"], ["y"]),
        ],
        shape,
    )


@pytest.mark.parametrize(("ends", "sizes"), [({"start": 0}, 2), ({"start": -1}, 1), ({"end": 1}, 1), ({"start": 1, "end": 1}, 0)])
def test_some_of_the_sizes(ends, sizes):
    """As torch's exporter asks for them."""
    proto = model([helper.make_node("Shape", ["x"], ["part"], **ends), helper.make_node("Identity", ["part"], ["y"])])
    assert kinds(folded(proto)) == []
    same(proto, folded(proto))
    assert ReferenceEvaluator(folded(proto)).run(None, {"x": X})[0].shape == (sizes,)


def test_sizes_that_are_known_and_sizes_that_are_not():
    assert kinds(folded(flattened([3, 4]))) == ["Reshape"]
    same(flattened([3, 4]), folded(flattened([3, 4])))
    left = folded(flattened(["rows", 4]))
    assert kinds(left) == ["Concat", "Gather", "Reshape", "Shape"]
    same(flattened(["rows", 4]), left, X[:2])


def branching(size):
    """An If in an If: both follow from the number of columns."""

    def branch(name, *nodes):
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)])

    inner = helper.make_node(
        "If",
        ["is_known"],
        ["inside"],
        then_branch=branch("a", helper.make_node("Neg", ["x"], ["negative"])),
        else_branch=branch("b", helper.make_node("Abs", ["x"], ["positive"])),
    )
    return model(
        [
            helper.make_node("Shape", ["x"], ["sizes"]),
            constant("last", 1),
            helper.make_node("Gather", ["sizes", "last"], ["columns"], axis=0),
            constant("wanted", size),
            helper.make_node("Equal", ["columns", "wanted"], ["is_known"]),
            helper.make_node(
                "If",
                ["is_known"],
                ["y"],
                then_branch=branch("outer", inner, helper.make_node("Exp", ["inside"], ["grown"])),
                else_branch=branch("other", helper.make_node("Sqrt", ["x"], ["root"])),
            ),
        ]
    )


@pytest.mark.parametrize(("size", "left"), [(4, ["Exp", "Identity", "Neg"]), (5, ["Identity", "Sqrt"])])
def test_a_branch_that_is_always_taken_stands_for_its_if(size, left):
    proto = branching(size)
    assert kinds(folded(proto)) == left
    same(proto, folded(proto))


def test_weights_are_moved_and_not_computed_with():
    weight = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    axes = numpy_helper.from_array(np.zeros(1, np.int64), "axes")
    nodes = [
        helper.make_node("Constant", [], ["axes"], value=axes),
        helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        helper.make_node("Add", ["turned", "turned"], ["twice"]),
        helper.make_node("Shape", ["twice"], ["sizes"]),
        helper.make_node("Gather", ["twice", "axes"], ["row"], axis=0),
        helper.make_node("Add", ["row", "x"], ["y"]),
    ]
    proto = model(nodes, [1, 100], [("w", weight)])
    assert kinds(folded(proto)) == ["Add", "Gather"]
    same(proto, folded(proto), np.ones((1, 100), np.float32))


def test_a_model_without_sizes_is_left_as_it_is():
    proto = model([helper.make_node("Relu", ["x"], ["y"])])
    assert folded(proto) is proto


def test_a_number_is_fixed_and_chooses_its_branch():
    """As the sampling rate of a model of speech: an If chooses the layers of one rate."""

    def branch(name, operator):
        return helper.make_graph(
            [helper.make_node(operator, ["x"], [name])], name, [], [helper.make_tensor_value_info(name, FLOAT, None)]
        )

    graph = helper.make_graph(
        [
            constant("wide", 16_000),
            helper.make_node("Equal", ["rate", "wide"], ["is_wide"]),
            helper.make_node("If", ["is_wide"], ["y"], then_branch=branch("a", "Neg"), else_branch=branch("b", "Exp")),
        ],
        "rates",
        [helper.make_tensor_value_info("rate", INT, []), helper.make_tensor_value_info("x", FLOAT, [3, 4])],
        [helper.make_tensor_value_info("y", FLOAT, [3, 4])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    module = compile_imported(import_onnx(proto, (16_000, X)), CompileOptions(threads=1, logs=False))
    for args, kwargs in [((16_000, X), {}), ((), {"x": X})]:
        np.testing.assert_array_equal(module(*args, **kwargs), -X)
    with pytest.raises(InputError, match="rate is 8000, and was fixed to 16000"):
        module(8_000, X)
