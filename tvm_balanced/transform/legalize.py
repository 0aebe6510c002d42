"""Operators of TVM that LegalizeOps writes down for us in another form than TVM's own."""

import math
from collections.abc import Callable

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import GenericConst
from tvm.relax.transform.legalize_ops.nn import topi

from tvm_balanced.core.dtypes import HALF_PRECISION
from tvm_balanced.ops import EMBEDDING_BAG, LINEAR_SCAN
from tvm_balanced.transform import legalize_bags, legalize_scans
from tvm_balanced.transform.legalize_rows import ROWS, Legalize, as_tvm_does, first_place_last


def _in_float32(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """An operator on half precision in float32, and back, as torch computes it.

    TVM has some for wider types only; others it writes in steps that are each rounded: tanh(1e-4) in float16 was 0, and a sum of
    a thousand numbers was as good as its last addition.
    """
    legalize = ROWS.get(call.op.name, as_tvm_does)
    narrow = str(call.args[0].ty.dtype.dtype)
    if narrow not in HALF_PRECISION:
        return legalize(builder, call)
    if call.op.name == "relax.tanh" and narrow == "bfloat16":
        return builder.call_te(tanh_bfloat16, call.args[0], primfunc_name_hint="tanh")
    wide = [_widened(builder, arg) if _is_tensor(arg) and str(arg.ty.dtype.dtype) == narrow else arg for arg in call.args]
    result = legalize(builder, builder.normalize(relax.Call(call.op, wide, call.attrs)))
    return builder.call_te(topi.cast, builder.emit(result), narrow)


def _matmul(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """A product of half precision, summed in float32; TVM rounds after every addition."""
    x, y = call.args
    narrow = str(call.ty.dtype.dtype)
    if narrow not in HALF_PRECISION:
        return as_tvm_does(builder, call)
    result = as_tvm_does(builder, builder.normalize(relax.op.matmul(x, y, out_dtype="float32")))
    return builder.call_te(topi.cast, builder.emit(result), narrow)


def tanh_bfloat16(x: te.Tensor) -> te.Tensor:
    """Return tanh of x, bfloat16; ApproximateMath takes no function that rounds to it, and LLVM's tanh loses a small x."""

    def one(*i: tirx.Expr) -> tirx.Expr:
        wide = tirx.Cast("float32", x(*i))
        small = wide - wide * wide * wide * tirx.const(1 / 3, "float32")
        near = tirx.abs(wide) < tirx.const(0.05, "float32")
        return tirx.Cast("bfloat16", tirx.Select(near, small, tirx.tanh(wide)))

    return te.compute(x.shape, one, name="tanh")


def _widened(builder: relax.BlockBuilder, arg: relax.Expr) -> relax.Expr:
    """A tensor in float32; a number stays one, which operators take apart: x ** 3 needs no power."""
    if isinstance(arg, GenericConst) and not arg.value.shape:
        return relax.const(float(arg.value.numpy()), "float32")
    return builder.emit(builder.call_te(topi.cast, arg, "float32"))


def _full(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """A tensor full of one value, which TVM 0.27 has no code for where that is infinite."""
    shape, value = call.args
    if not (isinstance(shape, relax.ShapeExpr) and isinstance(value, GenericConst) and np.isinf(value.value.numpy())):
        return as_tvm_does(builder, call)
    filled = tirx.const(float(value.value.numpy()), str(call.ty.dtype.dtype))
    return builder.call_te(lambda: te.compute(shape.values, lambda *_: filled, name="full"), primfunc_name_hint="full")


def _logical(operator: Callable[..., te.Tensor]) -> Legalize:
    """Arithmetic on booleans as logic: sums and maxima are `or`, products and minima `and`. LLVM has no vectors of the former."""

    def legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        if str(call.ty.dtype.dtype) != "bool":
            return as_tvm_does(builder, call)
        return builder.call_te(operator, *call.args)

    return legalize


def _logical_not(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Where a boolean is false; TVM simplifies `not a <= b` to `b < a`, as if there were no NaN."""
    if str(call.ty.dtype.dtype) != "bool" or str(call.args[0].ty.dtype.dtype) != "bool":
        return as_tvm_does(builder, call)
    return builder.call_te(logical_not, call.args[0], primfunc_name_hint="logical_not")


def logical_not(x: te.Tensor) -> te.Tensor:
    """Return where x, bool, is false."""
    return te.compute(x.shape, lambda *i: tirx.EQ(tirx.Cast("int8", x(*i)), tirx.const(0, "int8")), name="logical_not")


def _max_pool(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Maxima over windows, of which what lies outside is -inf; TVM takes the smallest finite number for it."""
    x, attrs = call.args[0], call.attrs
    dtype, axes = str(x.ty.dtype.dtype), len(attrs.pool_size)
    before, after = ([int(width) for width in part] for part in (attrs.padding[:axes], attrs.padding[axes:]))
    if "float" not in dtype or str(attrs.layout) != "NC" + "DHW"[-axes:] or not any([*before, *after, attrs.ceil_mode]):
        return as_tvm_does(builder, call)
    if attrs.ceil_mode:  # one more window, which begins inside
        after = [width + int(stride) - 1 for width, stride in zip(after, attrs.strides, strict=True)]
    lowest = tirx.const(-math.inf, dtype)
    pool = {1: topi.nn.pool1d, 2: topi.nn.pool2d, 3: topi.nn.pool3d}[axes]

    def maxima(x: te.Tensor) -> te.Tensor:
        padded = topi.nn.pad(x, [0, 0, *before], [0, 0, *after], lowest)
        return pool(padded, attrs.pool_size, attrs.strides, attrs.dilation, [0] * (2 * axes), "max", layout=str(attrs.layout))

    return builder.call_te(maxima, x, primfunc_name_hint="max_pool")


def _place(largest: bool) -> Legalize:
    """Where the largest or smallest value along an axis first is, or the first NaN; TVM passes over it, and gives -1 for -inf."""

    def legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        x = call.args[0]
        if str(x.ty.dtype.dtype) == "bfloat16":  # TVM cannot compile a reduction of pairs with it
            x = builder.emit(builder.call_te(topi.cast, x, "float32"))
        axis, keepdims, dims = call.attrs.axis, bool(call.attrs.keepdims), len(x.ty.shape)
        if axis is not None and dims > 1 and int(axis) % dims == dims - 1:
            return builder.call_te(first_place_last, x, keepdims, largest, primfunc_name_hint="first_place")
        return builder.call_te(first_place, x, axis, keepdims, largest)

    return legalize


def first_place(x: te.Tensor, axis: int | None, keepdims: bool, largest: bool) -> te.Tensor:
    """Return where the largest or smallest value of x along an axis (of all of x if None) first is, int64."""
    dims = len(x.shape)
    if axis is None:
        x, kept = topi.reshape(x, [math.prod(x.shape)]), [1] * dims
        axis, dims = 0, 1
    else:
        axis = int(axis) % dims
        kept = [*x.shape[:axis], 1, *x.shape[axis + 1 :]]
    dtype = str(x.dtype)
    bounds = [tirx.min_value(dtype), tirx.max_value(dtype)]
    if "float" in dtype:
        bounds = [tirx.const(value, dtype) for value in (-math.inf, math.inf)]
    reducer = te.comm_reducer(
        lambda a, b: _better(a, b, largest), lambda place, _: (tirx.max_value(place), bounds[0 if largest else 1]), name="place"
    )
    along = te.reduce_axis((0, x.shape[axis]), name="k")
    shape = [size for place, size in enumerate(x.shape) if place != axis]
    places, _ = te.compute(
        shape,
        lambda *i: reducer((tirx.Cast("int64", along.var), x(*i[:axis], along, *i[axis:])), axis=along),
        name="place",
    )
    return topi.reshape(places, kept) if keepdims else places


def _better(a: tuple[tirx.Expr, ...], b: tuple[tirx.Expr, ...], largest: bool) -> tuple[tirx.Expr, ...]:
    """Of two (place, value) the one with the better value, NaN the best; of equals the first."""
    earlier, greater = b[0] < a[0], b[1] > a[1] if largest else b[1] < a[1]
    second = tirx.any(greater, tirx.all(b[1].equal(a[1]), earlier))
    if "float" in str(a[1].ty.dtype):
        end = tirx.const(math.inf, str(a[1].ty.dtype))
        numbers = [value <= end for value in (a[1], b[1])]
        second = tirx.Select(numbers[1], tirx.all(numbers[0], second), tirx.any(numbers[0], earlier))
    return tuple(tirx.Select(second, right, left) for left, right in zip(a, b, strict=True))


def _multiply(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """A product; TVM simplifies x * 0 to 0, but it is NaN of NaN and infinities, for which torch's own decompositions use it."""
    x, y = call.args
    if isinstance(y, GenericConst) and not y.value.shape and not y.value.numpy() and "float" in str(x.ty.dtype.dtype):
        return builder.call_te(times_zero, x, primfunc_name_hint="multiply")
    return _logical(topi.logical_and)(builder, call)


def times_zero(x: te.Tensor) -> te.Tensor:
    """Return 0 where x, floats, is finite, else NaN."""
    zero, end, nan = (tirx.const(value, str(x.dtype)) for value in (0.0, math.inf, math.nan))
    return te.compute(x.shape, lambda *i: tirx.Select(tirx.abs(x(*i)) < end, zero, nan), name="times_zero")


def _slice_scatter(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """A slice written over; TVM asks in addition whether true is true, which it cannot compile in vectors of bfloat16."""
    return builder.call_te(slice_scatter, *call.args, call.attrs.axis, primfunc_name_hint="slice_scatter")


def slice_scatter(x: te.Tensor, source: te.Tensor, start: tirx.Expr, end: tirx.Expr, step: tirx.Expr, axis: int) -> te.Tensor:
    """Return x with `source` at the places from `start` to before `end` of an axis, every `step`."""

    def one(*i: tirx.Expr) -> tirx.Expr:
        behind = i[axis] - start
        conditions = [] if _is(start, 0) else [i[axis] >= start]
        conditions += [] if _is(end, x.shape[axis]) else [i[axis] < end]
        conditions += [] if _is(step, 1) else [tirx.floormod(behind, step).equal(0)]
        place = tirx.min(tirx.max(tirx.floordiv(behind, step), 0), source.shape[axis] - 1)
        written = source(*i[:axis], place, *i[axis + 1 :])
        return tirx.Select(tirx.all(*conditions), written, x(*i)) if conditions else written

    return te.compute(x.shape, one, name="slice_scatter")


def _is(value: tirx.Expr, number: tirx.Expr) -> bool:
    return isinstance(value, int | tirx.IntImm) and isinstance(number, int | tirx.IntImm) and int(value) == int(number)


def _is_tensor(arg: relax.Expr) -> bool:
    return isinstance(arg.ty, relax.TensorType)


UNARY = "acos acosh asin asinh atan atanh cos cosh erf exp log rsqrt sigmoid sin sinh sqrt tan tanh".split()
REDUCTIONS = "cumprod cumsum mean prod std sum variance".split()
LAYERS = "gelu gelu_tanh group_norm instance_norm layer_norm log_softmax selu silu softmax softplus".split()
BINARY = "atan2 floor_divide floor_mod log_add_exp mod power".split()
# On a GPU TVM's own softmax is scheduled by TVM's own rules.
LEGALIZE_GPU: dict[str, Legalize] = {"relax.nn.layer_norm": _in_float32, "relax.power": _in_float32, "relax.full": _full}
LEGALIZE_GPU |= {EMBEDDING_BAG: legalize_bags.on_gpu, LINEAR_SCAN: legalize_scans.on_gpu}
LEGALIZE: dict[str, Legalize] = {
    **{f"relax.{name}": _in_float32 for name in UNARY + REDUCTIONS + BINARY},
    **{f"relax.nn.{name}": _in_float32 for name in LAYERS},
    **dict.fromkeys(("relax.add", "relax.maximum"), _logical(topi.logical_or)),
    "relax.minimum": _logical(topi.logical_and),
    **{f"relax.{name}": ROWS[f"relax.{name}"] for name in ("max", "min")},
    "relax.multiply": _multiply,
    **{f"relax.nn.max_pool{axes}d": _max_pool for axes in (1, 2, 3)},
    "relax.argmax": _place(largest=True),
    "relax.argmin": _place(largest=False),
    "relax.full": _full,
    "relax.logical_not": _logical_not,
    "relax.matmul": _matmul,
    "relax.slice_scatter": _slice_scatter,
    EMBEDDING_BAG: legalize_bags.on_cpu,
    LINEAR_SCAN: legalize_scans.on_cpu,
}
