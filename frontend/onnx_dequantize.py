"""Weights of ONNX models that are stored as integers: each is multiplied by its scales once, when the model is read."""

import importlib
from collections import Counter
from typing import Any

import numpy as np

from tvm_balanced.core.encoding import Array


def dequantised(proto: Any) -> Any:
    """Return an ONNX model in which DequantizeLinear of stored integers are stored weights, float32, by the integers' names.

    The model itself is returned where it has none. What dequantises in blocks, or from anything but integers of up to 8 bits and
    scales in float32 that are stored too, stays. A kernel of 8 bits finds the scales again (`layouts/rounded_weight.py`).
    """
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    read = Counter(name for node in proto.graph.node for name in node.input)
    outside = {value.name for value in proto.graph.output}
    branches = any(attribute.HasField("g") for node in proto.graph.node for attribute in node.attribute)  # these may read it, too
    folds = [
        node
        for node in proto.graph.node
        if node.op_type == "DequantizeLinear"
        and all(name in stored for name in node.input if name)
        and read[node.input[0]] == 1
        and not branches
        and node.output[0] not in outside
    ]
    values = {node.input[0]: (node.output[0], value) for node in folds if (value := _value(node, stored)) is not None}
    if not values:
        return proto
    names = {output: _name(name, stored) for name, (output, _) in values.items()}
    changed = type(proto)()
    changed.CopyFrom(proto)
    graph, numpy_helper = changed.graph, importlib.import_module("onnx.numpy_helper")
    nodes = [node for node in graph.node if node.output[0] not in names]
    for node in nodes:
        renamed = [names.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(renamed)
    kept = [tensor for tensor in graph.initializer if tensor.name not in values]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(value, names[output]) for output, value in values.values())
    return changed


def _name(name: str, stored: dict[str, Any]) -> str:
    """Return the name of a weight that is stored as integers."""
    plain = name.removesuffix("_quantized")
    return name if plain in stored else plain


def _value(node: Any, stored: dict[str, Any]) -> Array | None:
    """Return (integers - zero point) * scale of a node whose inputs are stored, None where it is of another kind."""
    to_array = importlib.import_module("onnx.numpy_helper").to_array
    numbers, scale, *points = (to_array(stored[name]) for name in node.input if name)
    about = {attribute.name: attribute.i for attribute in node.attribute}
    axis = about.get("axis", 1)
    if numbers.dtype not in (np.int8, np.uint8) or scale.dtype != np.float32 or scale.ndim > 1 or about.get("block_size", 0):
        return None
    if scale.size > 1 and (not -numbers.ndim <= axis < numbers.ndim or numbers.shape[axis] != scale.size):
        return None  # the importer says what is wrong
    shape = [1] * numbers.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    zero = points[0].astype(np.float32).reshape(shape if points[0].size > 1 else ()) if points else np.float32(0)
    value: Array = (numbers.astype(np.float32) - zero) * scale.reshape(shape if scale.size > 1 else ())
    return value
