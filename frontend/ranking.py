"""Converters of operators that put values in order, in which torch has NaN behind everything else."""

from typing import Any

import numpy as np
from tvm import relax

# Keys to sort by. TVM sorts the bits of bfloat16 as if they were integers, and refuses narrow integers.
KEYS = {"float16": "float32", "bfloat16": "float32", "float32": "float64"}
KEYS |= dict.fromkeys(("bool", "uint8", "int8", "int16"), "int32")


def sort(node: Any, importer: Any) -> relax.Expr:
    """Convert values in order, and where they were."""
    dim, descending = _options(node, dim=-1, descending=False)
    return _picked(importer, node, relax.op.argsort(_key(node, importer), dim, descending, dtype="int64"), dim)


def argsort(node: Any, importer: Any) -> relax.Expr:
    """Convert where the values in order were."""
    dim, descending = _options(node, dim=-1, descending=False)
    return importer.block_builder.emit(relax.op.argsort(_key(node, importer), dim, descending, dtype="int64"))


def topk(node: Any, importer: Any) -> relax.Expr:
    """Convert the k largest or smallest values and where they were, in order, also where none is asked for."""
    k, dim, largest, _ = _options(node, k=None, dim=-1, largest=True, sorted=True)
    places = relax.op.topk(_key(node, importer), k, dim, ret_type="indices", largest=largest, dtype="int64")
    return _picked(importer, node, places, dim)


def median(node: Any, importer: Any) -> relax.Expr:
    """Convert the lower median, of all values, or along an axis and with its place; where there is NaN, the first is it."""
    dim, keepdims = _options(node, dim=None, keepdim=False)
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    middle = emit(relax.op.median(_key(node, importer), dim, keepdims))
    value = emit(relax.TupleGetItem(middle, 0)) if dim is not None else middle
    value, nan = emit(relax.op.astype(value, x.ty.dtype)), _nan(x, emit)
    if nan is not None:
        some = emit(relax.op.astype(emit(relax.op.max(emit(relax.op.astype(nan, "int8")), dim, keepdims)), "bool"))
        value = emit(relax.op.where(some, relax.const(np.nan, x.ty.dtype), value))
    if dim is None:
        return value
    place = emit(relax.TupleGetItem(middle, 1))
    if nan is not None:
        first = emit(relax.op.argmax(emit(relax.op.astype(nan, "int8")), dim, keepdims))
        place = emit(relax.op.where(some, first, emit(relax.op.astype(place, "int64"))))
    return emit(relax.Tuple([value, place]))


def _key(node: Any, importer: Any) -> relax.Expr:
    """What has the order of a tensor's values, with NaN at infinity and infinities at the ends of what is finite."""
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    dtype = str(x.ty.dtype.dtype)
    wide = KEYS.get(dtype, dtype)
    key = emit(relax.op.astype(x, wide)) if wide != dtype else x
    nan = _nan(x, emit)
    if nan is None:
        return key
    if wide != dtype:
        largest = float(np.finfo(wide).max)
        for operator, bound in ((relax.op.minimum, largest), (relax.op.maximum, -largest)):
            key = emit(operator(key, relax.const(bound, wide)))
    return emit(relax.op.where(nan, relax.const(np.inf, wide), key))


def _nan(x: relax.Expr, emit: Any) -> relax.Expr | None:
    """Where a tensor is NaN, None if its dtype has none; TVM does not know it of bfloat16."""
    dtype = str(x.ty.dtype.dtype)
    if "float" not in dtype:
        return None
    return emit(relax.op.isnan(emit(relax.op.astype(x, "float32")) if dtype == "bfloat16" else x))


def _picked(importer: Any, node: Any, places: relax.Expr, dim: int) -> relax.Expr:
    emit = importer.block_builder.emit
    places = emit(places)
    return emit(relax.Tuple([emit(relax.op.gather_elements(importer.env[node.args[0]], places, axis=dim)), places]))


def _options(node: Any, **defaults: Any) -> list[Any]:
    """The operands after the first, by place or by name; what is not given is as by default."""
    given = dict(zip(defaults, node.args[1:], strict=False)) | dict(node.kwargs)
    return [given.get(name, default) for name, default in defaults.items()]
