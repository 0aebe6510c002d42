"""Evaluate what an ONNX model computes of constants and of sizes that are known, and take the branches that follow from them.

Exporters write pads, slices and reshapes as arithmetic on sizes, and branches on them, which TVM's importer takes for values that
only the call knows.
"""

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tvm_balanced.core.encoding import Array

SIZES = frozenset(
    ("If", "Shape", "Size", "ConstantOfShape", "Range", "LSTM", "GRU", "RNN")
)  # a model without these is left as it is
MOVES = frozenset("Concat Gather Identity Reshape Slice Squeeze Transpose Unsqueeze".split())  # of any size, as weights are
ARITHMETIC = frozenset(
    "Abs Add And Cast Ceil ConstantOfShape Div Equal Expand Floor Greater GreaterOrEqual Less LessOrEqual Max Min Mod Mul Neg "
    "Not Or Range ReduceProd ReduceSum Sub Where".split()
)
MOST = 4096  # elements of what arithmetic is done on
ROUNDS = 8  # of branches that others reveal
Constants = dict[str, Array]
Types = dict[str, Any]  # onnx.TypeProto by the name of a value


def folded(proto: Any) -> Any:
    """Return an ONNX model without arithmetic on constants and on known sizes; the model itself where it has none.

    Its inputs and outputs stay as they are. A branch whose condition is known takes the place of its If.
    """
    if not any(node.op_type in SIZES for node in _nodes(proto.graph)):
        return proto
    onnx = importlib.import_module("onnx")
    changed = type(proto)()
    changed.CopyFrom(proto)
    for _ in range(ROUNDS):
        try:
            changed = onnx.shape_inference.infer_shapes(changed)
        except Exception:  # of more than 2 GB, or with operators that it does not know
            return proto
        if not _Folder(onnx, changed).fold(changed.graph, {}, {}):
            break
    return changed


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


class _Folder:
    """Folds the graphs of one model."""

    def __init__(self, onnx: Any, proto: Any) -> None:
        self.onnx, self.opsets, self.version = onnx, proto.opset_import, proto.ir_version

    def fold(self, graph: Any, constants: Constants, types: Types) -> bool:
        """Fold a graph in place, given the constants and types of those around it; return whether anything changed."""
        to_array = self.onnx.numpy_helper.to_array
        constants = constants | {tensor.name: to_array(tensor) for tensor in graph.initializer}
        types = types | {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}
        kept, again = [], False
        for node in graph.node:
            value = self.value(node, constants, types)
            if value is not None:
                constants[node.output[0]] = value
                again |= node.op_type != "Constant"
                kept.append(self.constant(node.output[0], value))
                continue
            branch = self.branch(node, constants)
            if branch is not None and self.inline(graph, node, branch, kept):
                again = True
                continue
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    self.infer(attribute.g, constants, types)
                    again |= self.fold(attribute.g, constants, types)
            kept.append(node)
        copies = [type(node).FromString(node.SerializeToString()) for node in kept]  # the graph's own go with what it held
        del graph.node[:]
        graph.node.extend(copies)
        return again

    def infer(self, branch: Any, constants: Constants, types: Types) -> None:
        """Write the types of a branch's values into it: onnx forgets what it infers within branches."""
        helper = self.onnx.helper
        read = {name for node in _nodes(branch) for name in node.input}
        outside = [
            self.onnx.ValueInfoProto(name=name, type=kind) for name, kind in types.items() if name in read - set(constants)
        ]
        stored = [self.onnx.numpy_helper.from_array(constants[name], name) for name in read & set(constants)]
        names = {tensor.name for tensor in stored}
        stored += [tensor for tensor in branch.initializer if tensor.name not in names]
        graph = helper.make_graph(branch.node, "branch", outside, branch.output, stored)
        model = helper.make_model(graph, opset_imports=self.opsets, ir_version=self.version)
        inferred = self.onnx.shape_inference.infer_shapes(model).graph
        del branch.value_info[:]
        branch.value_info.extend(inferred.value_info)

    def value(self, node: Any, constants: Constants, types: Types) -> Array | None:
        """Return what a node gives in every call; None where that is not known."""
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if len(node.output) != 1 or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type == "Constant":
            return self.onnx.numpy_helper.to_array(attributes["value"].t) if "value" in attributes else None
        if node.op_type in ("Shape", "Size"):
            known = constants.get(node.input[0])
            shape = _sizes(types.get(node.input[0])) if known is None else known.shape
            if shape is not None:
                first, last = (attributes[name].i if name in attributes else None for name in ("start", "end"))
                sizes = np.array(shape, np.int64)
                return sizes[first:last] if node.op_type == "Shape" else np.array(sizes.prod(), np.int64)
        names = [name for name in node.input if name]
        if node.op_type not in MOVES | ARITHMETIC or not names or any(name not in constants for name in names):
            return None
        if node.op_type in ARITHMETIC and max(constants[name].size for name in names) > MOST:
            return None
        value = self.evaluated(node, {name: constants[name] for name in names})
        return value if value.size <= MOST or node.op_type in MOVES else None

    def evaluated(self, node: Any, given: Constants) -> Array:
        helper = self.onnx.helper
        kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in given.items()}
        inputs = [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in given.items()]
        graph = helper.make_graph([node], "folded", inputs, [self.onnx.ValueInfoProto(name=node.output[0])])
        model = helper.make_model(graph, opset_imports=self.opsets, ir_version=self.version)
        evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator(model)
        return np.asarray(evaluator.run(None, given)[0])

    def constant(self, name: str, value: Array) -> Any:
        tensor = self.onnx.numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        return self.onnx.helper.make_node("Constant", [], [name], value=tensor)

    def branch(self, node: Any, constants: Constants) -> Any:
        """Return the graph that an If always takes, None for any other node."""
        if node.op_type != "If" or node.input[0] not in constants:
            return None
        name = "then_branch" if bool(constants[node.input[0]].reshape(-1)[0]) else "else_branch"
        return next(attribute.g for attribute in node.attribute if attribute.name == name)

    def inline(self, graph: Any, node: Any, branch: Any, kept: list[Any]) -> bool:
        """Put the nodes of a branch where its If is; returns whether that is possible: two names may clash."""
        taken = {name for other in (*graph.node, *kept) for name in other.output} | {one.name for one in graph.initializer}
        made = {name for inner in branch.node for name in inner.output} | {one.name for one in branch.initializer}
        if made & taken:
            return False
        graph.initializer.extend(branch.initializer)
        kept.extend(branch.node)
        pairs = zip(branch.output, node.output, strict=True)
        kept.extend(self.onnx.helper.make_node("Identity", [inner.name], [outer]) for inner, outer in pairs)
        return True


def _sizes(kind: Any) -> list[int] | None:
    """Return the shape of a value of some type; None where not all of its sizes are known."""
    if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return [dim.dim_value for dim in dims] if all(dim.HasField("dim_value") for dim in dims) else None
