"""Converters of what reads and writes at given places: indices from the end, lists of them, and sums into places."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_balanced.ops import embedding_bag as embedding_bag_of

MODES = ("sum", "mean", "max")  # of an embedding bag, as torch numbers them


def select(node: Any, importer: Any) -> relax.Expr:
    """Convert x[..., i, ...] with i a number, which may count from the end; TVM's take would give NaN for it."""
    source, dim, place = node.args
    x, emit = importer.env[source], importer.block_builder.emit
    axis = dim % len(x.ty.shape)
    size, place = x.ty.shape[axis], importer.env.get(place, place)
    place = place + size if isinstance(place, int) and place < 0 else place
    place = int(place) if isinstance(place, int | tvm.tirx.IntImm) else place
    if isinstance(place, int):
        return emit(relax.op.take(x, relax.const(place, "int64"), axis))
    return emit(relax.op.squeeze(emit(relax.op.strided_slice(x, [axis], [place], [place + 1], assume_inbound=True)), [axis]))


def index(node: Any, importer: Any) -> relax.Expr:
    """Convert x[i, :, j]: tensors of integers for some dimensions, which are taken together; they may count from the end."""
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    places = [None if place is None else importer.env[place] for place in node.args[1]]
    axes = [axis for axis, place in enumerate(places) if place is not None]
    given = [_from_the_start(places[axis], x.ty.shape[axis], emit) for axis in axes]
    if len(axes) == 1:
        return emit(relax.op.take(x, given[0], axes[0]))
    rest = [axis for axis in range(len(x.ty.shape)) if axis not in axes]
    given = [_inside(place, x.ty.shape[axis], emit) for place, axis in zip(given, axes, strict=True)]
    if axes != list(range(len(axes))):
        x = emit(relax.op.permute_dims(x, [*axes, *rest]))
    y = emit(relax.op.index_tensor(x, given))
    if axes != list(range(axes[0], axes[-1] + 1)) or axes[0] == 0:
        return y
    drawn = len(y.ty.shape) - len(rest)  # what the indices became stands where the first of them stood
    return emit(
        relax.op.permute_dims(y, [*range(drawn, drawn + axes[0]), *range(drawn), *range(drawn + axes[0], len(y.ty.shape))])
    )


def take(node: Any, importer: Any) -> relax.Expr:
    """Convert places in a flattened tensor."""
    x, places, emit = *(importer.env[arg] for arg in node.args), importer.block_builder.emit
    flat = emit(relax.op.reshape(x, [-1]))
    return emit(relax.op.take(flat, _from_the_start(places, flat.ty.shape[0], emit), 0))


def gather(node: Any, importer: Any) -> relax.Expr:
    """Convert one place for each element along a dimension; one out of range gives the nearest, TVM would read foreign memory."""
    source, dim, places = node.args[:3]
    x, emit = importer.env[source], importer.block_builder.emit
    axis = dim % len(x.ty.shape)
    places = _inside(importer.env[places], x.ty.shape[axis], emit)
    for other, (want, have) in enumerate(zip(places.ty.shape, x.ty.shape, strict=True)):
        if other != axis and not tvm.sym.Analyzer().can_prove_equal(want, have):  # TVM takes the whole of them
            x = emit(relax.op.strided_slice(x, [other], [0], [want], assume_inbound=True))
    return emit(relax.op.gather_elements(x, places, axis=axis))


def index_put(node: Any, importer: Any) -> relax.Expr:
    """Convert x[i, :, j] = values, or += where values accumulate."""
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    values, accumulate = importer.env[node.args[2]], len(node.args) > 3 and node.args[3]
    shape, places = x.ty.shape, [None if place is None else importer.env[place] for place in node.args[1]]
    axes = [axis for axis, place in enumerate(places) if place is not None]
    masks = [place for place in places if place is not None and str(place.ty.dtype.dtype) == "bool"]
    if masks and len(axes) == 1:
        return _put_where(x, axes[0], masks[0], values, bool(accumulate), emit)
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    given = [_inside(_from_the_start(places[axis], shape[axis], emit), shape[axis], emit) for axis in axes]
    if len(axes) == 1 and len(given[0].ty.shape) == 1 and not accumulate:
        return _put_along(x, axes[0], given[0], values, emit)
    drawn = _broadcast([place.ty.shape for place in given])
    together = axes == list(range(axes[0], axes[-1] + 1))
    before = [axis for axis in rest if axis < axes[0]] if together else []
    target = [*(shape[a] for a in before), *drawn, *(shape[a] for a in rest if a not in before)]
    every = {axis: _along(shape[axis], at, len(target), emit) for axis, at in _places_of(rest, before, len(drawn))}
    for axis, place in zip(axes, given, strict=True):
        every[axis] = _reshaped(place, [*place.ty.shape, *[1] * (len(target) - len(before) - len(drawn))], emit)

    def flat(tensor: relax.Expr) -> relax.Expr:
        return emit(relax.op.reshape(emit(relax.op.broadcast_to(tensor, target)), [-1]))

    ordered = [flat(every[axis]) for axis in range(len(shape))]
    if accumulate and str(x.ty.dtype.dtype) == "bool":  # TVM adds no booleans; their sum is whether any is true
        counts = emit(relax.op.index_put(_cast(x, "int32", emit), ordered, flat(_cast(values, "int32", emit)), True))
        return _cast(counts, "bool", emit)
    return emit(relax.op.index_put(x, ordered, flat(values), bool(accumulate)))


def _put_where(x: relax.Expr, axis: int, mask: relax.Expr, values: relax.Expr, accumulate: bool, emit: "Emit") -> relax.Expr:
    """Put values where a mask says so, of the dimensions from `axis` on. They are the same at all its places."""
    own, after = list(values.ty.shape), len(x.ty.shape) - axis - len(mask.ty.shape)
    if len(own) > after:  # one dimension is that of the places
        at = len(own) - after - 1
        if not tvm.sym.Analyzer().can_prove_equal(own[at], 1):
            raise NotImplementedError("it puts as many values as a mask says only at the call; choose by torch.where")
        values = _reshaped(values, [*own[:at], *[1] * len(mask.ty.shape), *own[at + 1 :]], emit)
    values = emit(relax.op.add(x, values)) if accumulate else values
    return emit(relax.op.where(_reshaped(mask, [*mask.ty.shape, *[1] * after], emit), values, x))


def _put_along(x: relax.Expr, axis: int, places: relax.Expr, values: relax.Expr, emit: "Emit") -> relax.Expr:
    """Put values into the places of one dimension, as index_copy does."""
    count, sizes = places.ty.shape[0], list(x.ty.shape)
    target = [*sizes[:axis], count, *sizes[axis + 1 :]]
    aligned = _reshaped(places, [count if a == axis else 1 for a in range(len(target))], emit)
    aligned, values = (emit(relax.op.broadcast_to(tensor, target)) for tensor in (aligned, values))
    return emit(relax.op.scatter_elements(x, aligned, values, axis=axis))


def scatter(reduction: str, node: Any, importer: Any) -> relax.Expr:
    """Convert values put, or added, into the places of one dimension."""
    x, places, values = (importer.env[node.args[place]] for place in (0, 2, 3))
    emit, axis = importer.block_builder.emit, node.args[1] % len(x.ty.shape)
    for other, (want, have) in enumerate(zip(places.ty.shape, values.ty.shape, strict=True)):
        if not tvm.sym.Analyzer().can_prove_equal(want, have):  # torch takes the first of more values than places
            values = emit(relax.op.strided_slice(values, [other], [0], [want], assume_inbound=True))
    places, dtype = _inside(places, x.ty.shape[axis], emit), str(x.ty.dtype.dtype)
    if reduction == "add" and dtype == "bool":  # TVM adds no booleans; their sum is whether any is true
        x, values = _cast(x, "int32", emit), _cast(values, "int32", emit)
    return _cast(emit(relax.op.scatter_elements(x, places, values, axis=axis, reduction=reduction)), dtype, emit)


def embedding(node: Any, importer: Any) -> relax.Expr:
    """Convert rows of a table; TVM's converter takes them by flattened places, and its result is copied once more."""
    table, places = (importer.env[arg] for arg in node.args[:2])
    return importer.block_builder.emit(relax.op.take(table, places, 0))


def embedding_bag(node: Any, importer: Any) -> relax.Expr:
    """Convert sums, means or maxima of the rows of each bag; what torch returns for its gradient is empty."""
    names = ("scale_grad_by_freq", "mode", "sparse", "per_sample_weights", "include_last_offset", "padding_idx")
    given = dict(zip(names, node.args[3:], strict=False)) | dict(node.kwargs)
    table, places, offsets = (importer.env[arg] for arg in node.args[:3])
    emit, weights, dtype = importer.block_builder.emit, given.get("per_sample_weights"), str(places.ty.dtype.dtype)
    y = embedding_bag_of(
        table,
        places,
        _cast(offsets, dtype, emit),
        None if weights is None else _cast(importer.env[weights], str(table.ty.dtype.dtype), emit),
        mode=MODES[given.get("mode", 0)],
        padding=int(given.get("padding_idx", -1)),
        ends=bool(given.get("include_last_offset", False)),
    )
    return emit(relax.Tuple([emit(y), *[relax.const(np.zeros(0, dtype))] * 3]))


def as_strided(node: Any, importer: Any) -> relax.Expr:
    """Convert a view of the elements of a tensor at given strides, of whole tensors whose elements lie as TVM has them."""
    x, size, stride, start = [*node.args, None][:4]
    whole, emit = x.meta["val"], importer.block_builder.emit
    start = whole.storage_offset() if start is None else start
    if not (whole.is_contiguous() and all(isinstance(number, int) for number in (*whole.shape, *size, *stride, start))):
        raise NotImplementedError("it views a tensor that is itself a view, or whose size is known only at the call")
    places = np.full(size, start - whole.storage_offset(), np.int64)
    for axis, (length, step) in enumerate(zip(size, stride, strict=True)):
        places += (np.arange(length) * step).reshape([-1 if axis == other else 1 for other in range(len(size))])
    if places.size and not 0 <= places.min() <= places.max() < whole.numel():
        raise NotImplementedError("it views more than its tensor")
    return emit(relax.op.take(emit(relax.op.reshape(importer.env[x], [-1])), relax.const(places), 0))


Emit = Callable[[relax.Expr], relax.Expr]


def _from_the_start(places: relax.Expr, size: Any, emit: Emit) -> relax.Expr:
    """Places that may count from the end, as places from the start; what is out of range stays so."""
    if "int" not in str(places.ty.dtype.dtype) or str(places.ty.dtype.dtype).startswith("uint"):
        what = f"places of dtype {places.ty.dtype.dtype} take as many elements as they say only at the call"
        raise TypeError(f"{what}; keep all, and choose by torch.where")
    whole = _number(size, places, emit)
    negative = emit(relax.op.less(places, relax.const(0, places.ty.dtype)))
    return emit(relax.op.where(negative, emit(relax.op.add(places, whole)), places))


def _inside(places: relax.Expr, size: Any, emit: Emit) -> relax.Expr:
    """Places held within the tensor, of which TVM reads whatever they say."""
    last = emit(relax.op.subtract(_number(size, places, emit), relax.const(1, places.ty.dtype)))
    zero = relax.const(0, places.ty.dtype)
    return emit(relax.op.maximum(emit(relax.op.minimum(places, last)), zero))


def _number(size: Any, like: relax.Expr, emit: Emit) -> relax.Expr:
    """A size, which may be known only at the call, as a tensor without dimensions of another's dtype."""
    dtype = str(like.ty.dtype.dtype)
    if isinstance(size, int | tvm.tirx.IntImm):
        return relax.const(int(size), dtype)
    number = emit(relax.op.reshape(emit(relax.op.shape_to_tensor(relax.ShapeExpr([size]))), []))
    return _cast(number, dtype, emit)


def _broadcast(shapes: Sequence[Any]) -> list[Any]:
    """The shape that tensors have when they stand beside each other."""
    length, out = max(len(shape) for shape in shapes), []
    for place in range(-length, 0):
        sizes = [shape[place] for shape in shapes if len(shape) >= -place]
        out.append(next((size for size in sizes if not tvm.sym.Analyzer().can_prove_equal(size, 1)), sizes[0]))
    return out


def _places_of(rest: Sequence[int], before: Sequence[int], drawn: int) -> list[tuple[int, int]]:
    """(axis, where it stands in what is written) of the dimensions that no index is for."""
    return [(axis, at if axis in before else at + drawn) for at, axis in enumerate(rest)]


def _along(size: Any, at: int, dims: int, emit: Emit) -> relax.Expr:
    """0, 1, 2, ... along one of several dimensions."""
    return _reshaped(emit(relax.op.arange(0, size, 1, "int64")), [size if d == at else 1 for d in range(dims)], emit)


def _cast(x: relax.Expr, dtype: str, emit: Emit) -> relax.Expr:
    return x if str(x.ty.dtype.dtype) == dtype else emit(relax.op.astype(x, dtype))


def _reshaped(x: relax.Expr, shape: Sequence[Any], emit: Emit) -> relax.Expr:
    return emit(relax.op.reshape(x, list(shape)))
