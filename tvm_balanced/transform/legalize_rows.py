"""Norms, softmax and means, written row by row: whatever they reduce becomes one last axis, which rules can make vectors of.

TVM's own are loops over several axes. A row that is no multiple of a vector is reduced in two parts: whole vectors, and the rest.
"""

import math
import operator
from collections.abc import Callable, Sequence

from tvm import relax, te, tirx
from tvm.relax.transform.legalize_ops.nn import topi

LANES = 16  # of the longest vectors
FEW_LANES = 4  # of the shortest: the rule for attention, which pads to whole vectors, knows softmax in one part only
FLOATS = ("float32", "float64")

Legalize = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]


def as_tvm_does(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Return what TVM writes for an operator."""
    return call.op.get_attr("FLegalize")(builder, call)


def _softmax(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Softmax by one reciprocal a row, where TVM divides every element, at the time of ten multiplications each."""
    return _along_last(builder, call, softmax_last, "softmax")


def _log_softmax(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return _along_last(builder, call, log_softmax_last, "log_softmax")


def _along_last(builder: relax.BlockBuilder, call: relax.Call, last: Callable[[te.Tensor], te.Tensor], name: str) -> relax.Expr:
    """An operator along one axis, on a transposed image if that is not the last: two transposes cost less than its strides."""
    x, axis, dims = call.args[0], int(call.attrs.axis), len(call.args[0].ty.shape)
    axis %= dims
    if str(x.ty.dtype.dtype) != "float32":
        return as_tvm_does(builder, call)
    if axis == dims - 1:
        return builder.call_te(last, x, primfunc_name_hint=name)
    order = [place for place in range(dims) if place != axis] + [axis]
    turned = builder.emit(builder.call_te(topi.transpose, x, order))
    done = builder.emit(builder.call_te(last, turned, primfunc_name_hint=name))
    return builder.call_te(topi.transpose, done, [order.index(place) for place in range(dims)])


def softmax_last(x: te.Tensor) -> te.Tensor:
    """Return softmax along the last axis of x, float32."""
    rows, length = x.shape[:-1], x.shape[-1]
    largest = reduced(te.max, tirx.max, rows, length, x, "softmax_max", FEW_LANES)
    power = te.compute(x.shape, lambda *i: te.exp(x(*i) - largest(*i[:-1])), name="softmax_exp")
    total = reduced(te.sum, operator.add, rows, length, power, "softmax_sum", FEW_LANES)
    scale = te.compute(rows, lambda *i: 1.0 / total(*i), name="softmax_scale")
    return te.compute(x.shape, lambda *i: power(*i) * scale(*i[:-1]), name="softmax")


def log_softmax_last(x: te.Tensor) -> te.Tensor:
    """Return log-softmax along the last axis of x, float32."""
    rows, length = x.shape[:-1], x.shape[-1]
    largest = reduced(te.max, tirx.max, rows, length, x, "log_softmax_max")
    power = te.compute(x.shape, lambda *i: te.exp(x(*i) - largest(*i[:-1])), name="log_softmax_exp")
    total = reduced(te.sum, operator.add, rows, length, power, "log_softmax_sum")
    log = te.compute(rows, lambda *i: te.log(total(*i)), name="log_softmax_log")
    return te.compute(x.shape, lambda *i: (x(*i) - largest(*i[:-1])) - log(*i[:-1]), name="log_softmax")


def reduced(
    reduce: Callable[..., te.Tensor],
    join: Callable[[tirx.Expr, tirx.Expr], tirx.Expr],
    rows: Sequence[tirx.Expr],
    length: tirx.Expr,
    element: Callable[..., tirx.Expr],
    name: str,
    lanes: int = LANES,
) -> te.Tensor:
    """Return (*rows), the elements (*row, k) reduced over k: whole vectors, and what is left of a row.

    Parameters
    ----------
    reduce : callable
        te.sum, te.max or te.min.
    join : callable
        The same for two numbers.
    rows : sequence
        The shape of the result.
    length : int or Expr
        Of k; in one part if it is symbolic.
    element : callable
        From (*row, k) to what is reduced.
    name : str
    lanes : int
        A row of a multiple of so many elements is reduced in one part.
    """
    count = int(length) if isinstance(length, (int, tirx.IntImm)) else 0
    whole = count // LANES * LANES

    def part(first: int, end: tirx.Expr, label: str) -> te.Tensor:
        k = te.reduce_axis((0, end - first), name="k")
        return te.compute(rows, lambda *i: reduce(element(*i, k + first if first else k), axis=k), name=label)

    if not count % lanes or count < 2 * LANES:
        return part(0, length, name)
    vectors = part(0, whole, name)
    if count == whole + 1:  # a loop of one step is no reduction to TVM
        return te.compute(rows, lambda *i: join(vectors(*i), element(*i, whole)), name=f"{name}_both")
    rest = part(whole, count, f"{name}_rest")
    return te.compute(rows, lambda *i: join(vectors(*i), rest(*i)), name=f"{name}_both")


def first_place_last(x: te.Tensor, keepdims: bool, largest: bool) -> te.Tensor:
    """Return where the largest or smallest value along the last axis of x first is, or the first NaN, int64.

    The value first, then the least of its places: both are vectors, and a reduction of pairs is not.
    """
    rows, length, dtype = x.shape[:-1], x.shape[-1], str(x.dtype)
    reduce, join = (te.max, tirx.max) if largest else (te.min, tirx.min)
    best = reduced(reduce, join, rows, length, x, "best")

    def place(*i: tirx.Expr) -> tirx.Expr:
        here = tirx.Cast("int64", i[-1])
        found = tirx.Select(x(*i).equal(best(*i[:-1])), here, tirx.max_value("int64"))
        return tirx.Select(x(*i) <= tirx.const(math.inf, dtype), found, here) if "float" in dtype else found

    first = reduced(te.min, tirx.min, rows, length, place, "first")
    shape = (*rows, 1) if keepdims else rows
    return te.compute(shape, lambda *i: first(*i[: len(rows)]), name="place")


def _reduction(name: str) -> Legalize:
    """A reduction over the last axes, as over pixels, or over all, along one axis."""

    def legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        x, dims = call.args[0], len(call.args[0].ty.shape)
        axes = sorted(int(axis) % dims for axis in (range(dims) if call.attrs.axis is None else call.attrs.axis))
        if not _are_last(x, axes) or (len(axes) < 2 and axes[0] > 0):
            return as_tvm_does(builder, call)
        whole = axes[0] == 0  # a rule needs an axis that stays
        keepdims = bool(call.attrs.keepdims)
        done = builder.call_te(reduction_last, x, len(axes), keepdims or whole, name, primfunc_name_hint=name)
        return relax.op.reshape(builder.emit(done), []) if whole and not keepdims else done

    return legalize


def _are_last(x: relax.Expr, axes: Sequence[int]) -> bool:
    """Whether these are the last axes of x, of known sizes, and x is float32."""
    dims = len(x.ty.shape)
    known = bool(axes) and _is_known(list(x.ty.shape)[axes[0] :])
    return known and list(axes) == list(range(dims - len(axes), dims)) and str(x.ty.dtype.dtype) == "float32"


def reduction_last(x: te.Tensor, count: int, keepdims: bool, name: str) -> te.Tensor:
    """Return the mean, sum, max or min over the last `count` axes of x, float32."""
    outer, sizes = x.shape[:-count], [int(size) for size in x.shape[-count:]]
    rows, length = outer or [1], math.prod(sizes)

    def element(*place: tirx.Expr) -> tirx.Expr:
        *row, k = place
        steps = [math.prod(sizes[axis + 1 :]) for axis in range(count)]
        return x(*row[: len(outer)], *(k // step % size for step, size in zip(steps, sizes, strict=True)))

    total = reduced(*JOINS[name], rows, length, element, f"{name}_whole")
    scale = tirx.const(1 / length if name == "mean" else 1.0, "float32")
    ones = [1] * count if keepdims else []

    def one(*i: tirx.Expr) -> tirx.Expr:
        value = total(*(i[: len(outer)] or [0]))
        return value * scale if name == "mean" else value

    return te.compute([*outer, *ones], one, name=name)


def _layer_norm(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """A layer norm over one last axis, or over several as over one."""
    x, gamma, beta = call.args
    axes, shape = sorted(int(axis) % len(x.ty.shape) for axis in call.attrs.axes), list(x.ty.shape)
    last = axes == list(range(axes[0], len(shape)))
    if not last or not _is_known(shape[axes[0] :]) or str(x.ty.dtype.dtype) not in FLOATS:
        return as_tvm_does(builder, call)
    length, epsilon = math.prod(int(size) for size in shape[axes[0] :]), float(call.attrs.epsilon)
    rows = shape[: axes[0]] or [1]
    if len(axes) == 1 and axes[0]:
        return builder.call_te(layer_norm_last, x, gamma, beta, epsilon, primfunc_name_hint="layer_norm")
    flat = [_reshaped(builder, x, [*rows, length]), *(_reshaped(builder, part, [length]) for part in (gamma, beta))]
    done = builder.call_te(layer_norm_last, *flat, epsilon, primfunc_name_hint="layer_norm")
    return relax.op.reshape(builder.emit(done), shape)


def layer_norm_last(x: te.Tensor, gamma: te.Tensor, beta: te.Tensor, epsilon: float) -> te.Tensor:
    """Return the layer norm along the last axis of x, float32 or float64; gamma and beta are (length,)."""
    mean, scale = _moments(x, epsilon)

    def normed(*place: tirx.Expr) -> tirx.Expr:
        *row, k = place
        return (x(*place) - mean(*row)) * scale(*row) * gamma(k) + beta(k)

    return te.compute(x.shape, normed, name="norm")


def _moments(x: te.Tensor, epsilon: float) -> tuple[te.Tensor, te.Tensor]:
    """Return the mean of each row of x and one over its standard deviation.

    The variance is that of the differences to the mean. TVM subtracts the square of the mean from the mean of squares, which
    loses all digits where the mean is large: of numbers around 1000 with a deviation of 1, a tenth of the result.
    """
    *rows, length = x.shape
    share = tirx.const(1 / int(length), x.dtype)
    total = reduced(te.sum, operator.add, rows, length, x, "norm_sum")
    mean = te.compute(rows, lambda *i: total(*i) * share, name="norm_mean")

    def square(*place: tirx.Expr) -> tirx.Expr:
        difference = x(*place) - mean(*place[:-1])
        return difference * difference

    squares = reduced(te.sum, operator.add, rows, length, square, "norm_squares")
    return mean, te.compute(rows, lambda *i: te.rsqrt(squares(*i) * share + tirx.const(epsilon, x.dtype)), name="norm_scale")


def _group_norm(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """A group norm of an image (N, C, ...), whose groups are rows."""
    return _grouped(builder, call, int(call.attrs.num_groups))


def _instance_norm(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """An instance norm of an image (N, C, ...): each channel is a group."""
    return _grouped(builder, call, None)


def _grouped(builder: relax.BlockBuilder, call: relax.Call, groups: int | None) -> relax.Expr:
    x, gamma, beta = call.args
    shape, attrs = list(x.ty.shape), call.attrs
    pixels = sorted(
        {int(axis) % len(shape) for axis in attrs.axes}
        - ({0} if isinstance(shape[0], tirx.IntImm) and int(shape[0]) == 1 else set())
    )
    images = len(shape) > 1 and int(attrs.channel_axis) % len(shape) == 1 and pixels == list(range(2, len(shape)))
    if not images or not _is_known(shape[1:]) or str(x.ty.dtype.dtype) not in FLOATS:
        return as_tvm_does(builder, call)
    count = groups or int(shape[1])
    channels, length = int(shape[1]) // count, math.prod(int(size) for size in shape[1:]) // count
    rows, name = _reshaped(builder, x, [shape[0], count, length]), call.op.name.rpartition(".")[2]
    done = builder.call_te(group_norm_rows, rows, gamma, beta, channels, float(attrs.epsilon), primfunc_name_hint=name)
    return relax.op.reshape(builder.emit(done), shape)


def group_norm_rows(x: te.Tensor, gamma: te.Tensor, beta: te.Tensor, channels: int, epsilon: float) -> te.Tensor:
    """Return the group norm of x (N, groups, channels * pixels), float32 or float64, as (N, groups, channels, pixels).

    `channels` are those of a group; gamma and beta are (groups * channels,).
    """
    *rows, length = x.shape
    pixels = int(length) // channels
    mean, scale = _moments(x, epsilon)

    def normed(n: tirx.Expr, g: tirx.Expr, c: tirx.Expr, k: tirx.Expr) -> tirx.Expr:
        channel = g * channels + c
        return (x(n, g, c * pixels + k) - mean(n, g)) * (scale(n, g) * gamma(channel)) + beta(channel)

    return te.compute([*rows, channels, pixels], normed, name="norm")


def _is_known(sizes: Sequence[tirx.Expr]) -> bool:
    return all(isinstance(size, tirx.IntImm) for size in sizes)


def _reshaped(builder: relax.BlockBuilder, x: relax.Expr, shape: Sequence[tirx.Expr | int]) -> relax.Expr:
    return builder.emit(relax.op.reshape(x, shape))


JOINS: dict[str, tuple[Callable[..., te.Tensor], Callable[[tirx.Expr, tirx.Expr], tirx.Expr]]] = {
    "max": (te.max, tirx.max),
    "mean": (te.sum, operator.add),
    "min": (te.min, tirx.min),
    "sum": (te.sum, operator.add),
}
ROWS: dict[str, Legalize] = {
    **{f"relax.{name}": _reduction(name) for name in JOINS},
    "relax.nn.group_norm": _group_norm,
    "relax.nn.instance_norm": _instance_norm,
    "relax.nn.layer_norm": _layer_norm,
    "relax.nn.log_softmax": _log_softmax,
    "relax.nn.softmax": _softmax,
}
