"""Converters of single operators for TVM's importer, to replace its own that are wrong or lose what torch knows."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import tvm
from torch.utils import _pytree as pytree
from tvm import relax

from tvm_balanced.frontend import linear_scans, lookups, ranking, recurrent

Converter = Callable[[Any, Any], relax.Expr]  # (torch.fx.Node, the importer)
# What TVM's importer writes in several steps, and its method for it.
IN_STEPS = {
    "_native_batch_norm_legit_no_training": "batch_norm_legit_no_training",
    "_native_batch_norm_legit_functional": "batch_norm_legit_functional",
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "_adaptive_avg_pool3d": "adaptive_avg_pool3d",
}
IN_FLOAT32 = {"float16": "float32", "bfloat16": "float32"}  # what has several steps, each of which is rounded
ROOTS = {0.5: relax.op.sqrt, -0.5: relax.op.rsqrt}
LEFT, RIGHT = relax.op.left_shift, relax.op.right_shift
SHIFTS = {"bitwise_left_shift": LEFT, "bitwise_right_shift": RIGHT, "__lshift__": LEFT, "__rshift__": RIGHT}
CONVOLUTIONS = {1: relax.op.nn.conv1d, 2: relax.op.nn.conv2d}  # by the number of dimensions that they slide over


def converters() -> dict[str, Converter]:
    """Return our converters by the name of their operator."""
    comparisons = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
    compared = {
        f"{name}.{kind}": partial(compare, getattr(relax.op, op))
        for name, op in comparisons.items()
        for kind in ("Tensor", "Scalar")
    }
    return compared | {
        "mm.default": matmul,
        "bmm.default": matmul,
        "matmul.default": matmul,
        "linear.default": linear,
        "addmm.default": addmm,
        "convolution.default": convolution,
        "native_group_norm.default": group_norm,
        "add.Tensor": partial(scaled_sum, relax.op.add),
        "sub.Tensor": partial(scaled_sum, relax.op.subtract),
        "div.Tensor_mode": divide,
        "floor_divide.default": partial(divide, rounding="floor"),
        "remainder.Tensor": remainder,
        "remainder.Scalar": remainder,
        "pow.Tensor_Tensor": power,
        "pow.Tensor_Scalar": power,
        "pow.Scalar": power,
        "clamp.default": clamp,
        "clamp.Tensor": clamp,
        "clamp_min.default": clamp,
        "hardtanh.default": hardtanh,
        "arange.start_step": arange,
        **{
            f"{name}.{kind}": partial(shift, operator)
            for name, operator in SHIFTS.items()
            for kind in (("Tensor", "Scalar") if name.startswith("__") else ("Tensor", "Tensor_Scalar", "Scalar_Tensor"))
        },
        "constant_pad_nd.default": partial(by_way_of, {"bool": "uint8"}, "_constant_pad_nd"),  # by 2 is by true
        "elu.default": elu,
        "log1p.default": partial(in_float32, _log1p),
        "expm1.default": partial(in_float32, _expm1),
        "sinh.default": partial(in_float32, _sinh),
        "cosh.default": partial(in_float32, _cosh),
        "atanh.default": partial(in_float32, _atanh),
        "log2.default": partial(in_float32, partial(_logarithm, 0.6931471805599453)),
        "log10.default": partial(in_float32, partial(_logarithm, 2.302585092994046)),
        "amax.default": partial(extremum, relax.op.max),
        "amin.default": partial(extremum, relax.op.min),
        "max.default": partial(extremum, relax.op.max),
        "min.default": partial(extremum, relax.op.min),
        "max.dim": partial(extremum_and_place, relax.op.max, relax.op.argmax),
        "min.dim": partial(extremum_and_place, relax.op.min, relax.op.argmin),
        "sign.default": sign,
        "neg.default": negative,
        "_upsample_bilinear2d_aa.default": smoothed_resize,
        "upsample_nearest2d.vec": nearest_resize,
        **{f"{name}.default": partial(by_way_of, IN_FLOAT32, f"_{method}") for name, method in IN_STEPS.items()},
        **{f"upsample_{kind}2d.vec": partial(weighted_resize, f"_upsample_{kind}2d") for kind in ("bilinear", "bicubic")},
        "sort.default": ranking.sort,
        "argsort.default": ranking.argsort,
        "topk.default": ranking.topk,
        "median.default": ranking.median,
        "median.dim": ranking.median,
        "isnan.default": partial(finiteness, relax.op.isnan),
        "isinf.default": partial(finiteness, relax.op.isinf),
        "bucketize.Tensor": bucketize,
        "prod.dim_int": product,
        "affine_grid_generator.default": affine_grid,
        "any.default": any_,
        "any.dim": any_,
        "any.dims": any_,
        "cat.default": concatenate,
        "cumsum.default": partial(running, relax.op.cumsum),
        "cumprod.default": partial(running, relax.op.cumprod),
        "slice.Tensor": slice_,
        "split.Tensor": split,
        "split_with_sizes.default": split,
        "copy.default": copy,
        "native_dropout.default": native_dropout,
        "as_strided.default": lookups.as_strided,
        "select.int": lookups.select,
        "index.Tensor": lookups.index,
        "index_put.default": lookups.index_put,
        "lstm.input": partial(recurrent.layers, "lstm"),
        "gru.input": partial(recurrent.layers, "gru"),
        "rnn_tanh.input": partial(recurrent.layers, "rnn_tanh"),
        "rnn_relu.input": partial(recurrent.layers, "rnn_relu"),
        "linear_scan.default": linear_scans.convert,
        "linear_scan_read.default": linear_scans.convert,
        "take.default": lookups.take,
        "gather.default": lookups.gather,
        "scatter.src": partial(lookups.scatter, "update"),
        "scatter_add.default": partial(lookups.scatter, "add"),
        "embedding.default": lookups.embedding,
        "_embedding_bag.default": lookups.embedding_bag,
        "_embedding_bag_forward_only.default": lookups.embedding_bag,
        **{f"max_pool{d}d_with_indices.default": partial(max_pool, d) for d in (1, 2, 3)},
        **{f"avg_pool{d}d.default": partial(average_pool, d) for d in (2, 3)},
    }


# TVM's importer gives products and convolutions a float32 result for any operands, so no other dtype imports.
def matmul(node: Any, importer: Any) -> relax.Expr:
    """Convert a product of two tensors."""
    return importer.block_builder.emit(relax.op.matmul(importer.env[node.args[0]], importer.env[node.args[1]]))


def linear(node: Any, importer: Any) -> relax.Expr:
    """Convert a dense layer. One of half precision whose weight is no constant gets its bias in float32, as our kernels do it."""
    x, weight, emit = importer.env[node.args[0]], importer.env[node.args[1]], importer.block_builder.emit
    bias = importer.env[node.args[2]] if len(node.args) > 2 and node.args[2] is not None else None
    if bias is None or _is_constant(node.args[1], importer):
        return emit(relax.op.linear(x, weight, bias))
    return _wide(lambda *operands: operands[-1](relax.op.linear(*operands[:-1])), (x, weight, bias), emit)


def addmm(node: Any, importer: Any) -> relax.Expr:
    """Convert beta * bias + alpha * x @ y."""
    bias, x, y = (importer.env[arg] for arg in node.args[:3])
    alpha, beta, emit = node.kwargs.get("alpha", 1), node.kwargs.get("beta", 1), importer.block_builder.emit
    if _is_constant(node.args[2], importer):  # a dense layer, which a kernel of ours computes in float32
        return _addmm(alpha, beta, bias, x, y, emit)
    return _wide(partial(_addmm, alpha, beta), (bias, x, y), emit)


def _is_constant(node: Any, importer: Any) -> bool:
    """Whether a node is a parameter, a buffer or a constant, or made of these alone. While it is imported, it is a variable."""
    waiting, seen = [node], set()
    while waiting:
        each = waiting.pop()
        if each.op == "placeholder" and each.name in importer.constants:
            continue
        if each.op != "call_function" or not each.all_input_nodes:
            return False
        waiting += [one for one in each.all_input_nodes if one not in seen]
        seen.update(each.all_input_nodes)
    return True


def _addmm(
    alpha: float, beta: float, bias: relax.Expr, x: relax.Expr, y: relax.Expr, emit: Callable[..., relax.Expr]
) -> relax.Expr:
    product, dtype = emit(relax.op.matmul(x, y)), x.ty.dtype
    if alpha != 1:
        product = emit(relax.op.multiply(product, relax.const(alpha, dtype)))
    if beta == 0:  # torch then ignores the bias, even NaN in it
        return product
    return emit(relax.op.add(product, bias if beta == 1 else emit(relax.op.multiply(bias, relax.const(beta, dtype)))))


def convolution(node: Any, importer: Any) -> relax.Expr:
    """Convert a convolution over one or two dimensions. Half precision is summed, and gets its bias, in float32."""
    x, weight, bias, stride, padding, dilation, transposed, _, groups = node.args
    x, weight, emit = importer.env[x], importer.env[weight], importer.block_builder.emit
    dims, dtype = len(weight.ty.shape) - 2, str(x.ty.dtype.dtype)
    if transposed or dims not in CONVOLUTIONS:
        return by_way_of(IN_FLOAT32, "_convolution", node, importer)
    wide = IN_FLOAT32.get(dtype, dtype)
    y = emit(CONVOLUTIONS[dims](x, weight, stride, padding, dilation, groups, out_dtype=wide))
    if bias is not None:
        added = emit(relax.op.astype(importer.env[bias], wide))
        y = emit(relax.op.add(y, emit(relax.op.reshape(added, [1, -1, *[1] * dims]))))
    return y if wide == dtype else emit(relax.op.astype(y, dtype))


def by_way_of(wider: Mapping[str, str], method: str, node: Any, importer: Any) -> relax.Expr:
    """Convert an operator as TVM's importer does, operands of some dtypes in wider ones; results have theirs again."""
    emit, env = importer.block_builder.emit, importer.env
    narrow = {arg: env[arg] for arg in node.all_input_nodes if isinstance(getattr(env[arg], "ty", None), relax.TensorType)}
    narrow = {arg: x for arg, x in narrow.items() if _dtype(x) in wider}
    if not narrow:
        return getattr(importer, method)(node)
    dtype = _dtype(next(iter(narrow.values())))

    def narrowed(result: relax.Expr) -> relax.Expr:
        return emit(relax.op.astype(result, dtype)) if _dtype(result) == wider[dtype] else result

    try:
        env.update({arg: emit(relax.op.astype(x, wider[_dtype(x)])) for arg, x in narrow.items()})
        result = getattr(importer, method)(node)
    finally:
        env.update(narrow)
    if isinstance(result.ty, relax.TupleType):
        parts = [emit(relax.TupleGetItem(result, place)) for place in range(len(result.ty.fields))]
        return emit(relax.Tuple([narrowed(part) for part in parts]))
    return narrowed(result)


def weighted_resize(method: str, node: Any, importer: Any) -> relax.Expr:
    """Convert a resize by weighted pixels, half precision in float32; refuse integers, whose weights PyTorch rounds to 8 bits."""
    if "float" not in _dtype(importer.env[node.args[0]]):
        raise NotImplementedError("it resizes an image of integers; resize image.float(), and round it as you need it")
    return by_way_of(IN_FLOAT32, method, node, importer)


def smoothed_resize(node: Any, importer: Any) -> relax.Expr:
    """Refuse a resize that smooths, of which TVM's importer leaves out the smoothing."""
    raise NotImplementedError("it smooths as it makes an image smaller; use interpolate with antialias=False")


def sign(node: Any, importer: Any) -> relax.Expr:
    """Convert the sign of each value, which of true and false is itself; TVM writes -1 for numbers that have none, too."""
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    if _dtype(x) == "bool":
        return x
    unsigned = _dtype(x).startswith("uint")
    return emit(relax.op.minimum(x, relax.const(1, x.ty.dtype)) if unsigned else relax.op.sign(x))


def negative(node: Any, importer: Any) -> relax.Expr:
    """Convert -x, which wraps where numbers have no sign; TVM multiplies those by -1, which they cannot hold."""
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    unsigned = _dtype(x).startswith("uint")
    return emit(relax.op.subtract(relax.const(0, x.ty.dtype), x) if unsigned else relax.op.negative(x))


def extremum(operator: Callable[..., relax.Expr], node: Any, importer: Any) -> relax.Expr:
    """Convert the largest or smallest value along some axes (all if none is given), as in pooling over tokens."""
    axes, keepdims = _options(node, [], False)
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    return _extremum(operator, x, emit, axis=list(axes) or None, keepdims=keepdims)


def extremum_and_place(
    operator: Callable[..., relax.Expr], place: Callable[..., relax.Expr], node: Any, importer: Any
) -> relax.Expr:
    """Convert the largest or least value along an axis and where it first is; TVM's importer sorts for it, and knows no least."""
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    axis, keepdims = _options(node, 0, False)
    sortable = emit(relax.op.astype(x, "int8")) if _dtype(x) == "bool" else x
    places = emit(place(sortable, axis, keepdims))
    return emit(relax.Tuple([_extremum(operator, x, emit, axis=[axis], keepdims=keepdims), places]))


def max_pool(dims: int, node: Any, importer: Any) -> relax.Expr:
    """Convert pooling; its second result is where each value was, for which TVM's importer gives zeros."""
    if any(user.args[1] == 1 and user.users for user in node.users):
        raise NotImplementedError("it is asked where each largest value was")
    x = importer.env[node.args[0]]
    kernel, stride, padding, dilation, ceil_mode = _options(node, None, None, 0, 1, False)
    if ceil_mode and dilation in (1, [1] * dims):
        kernel, stride = _inside_image(x, kernel, stride, padding)
    pool = getattr(importer, f"_max_pool{dims}d_impl")
    return (pool(x, kernel, stride or None, padding, dilation, ceil_mode),)


def _inside_image(x: relax.Expr, kernel: Any, stride: Any, padding: Any) -> tuple[Any, Any]:
    """Return the window and stride of pooling that rounds up: a window that is larger than the image becomes the image.

    TVM would pad the image to a window behind its last one: 8 GB for the pooling of an EfficientNet, whose window is 1280 pixels
    wide.
    """
    sizes = [size if isinstance(size, tvm.tirx.IntImm) else None for size in list(x.ty.shape)[2:]]
    if any(pytree.tree_leaves(padding)):
        return kernel, stride
    windows, steps = ([*one] * (len(sizes) // len(one)) for one in (kernel, stride or kernel))
    for axis, size in enumerate(sizes):
        if size is not None and windows[axis] > int(size):
            windows[axis] = steps[axis] = int(size)
    return windows, steps


def average_pool(dims: int, node: Any, importer: Any) -> relax.Expr:
    """Convert pooling by means; TVM's importer leaves out a divisor that is given, and takes the size of the window."""
    kernel, stride, padding, ceil_mode, with_padding, divisor = _options(node, None, None, 0, False, True, None)
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    if ceil_mode and divisor is None:
        kernel, stride = _inside_image(x, kernel, stride, padding)
    pool = getattr(importer, f"_avg_pool{dims}d_impl")

    def mean(x: relax.Expr, emit: Callable[..., relax.Expr]) -> relax.Expr:
        return pool(x, kernel, stride or None, padding, ceil_mode, with_padding or divisor is not None)

    y = _wide(mean, (x,), emit)
    if divisor is None:
        return y
    if ceil_mode or "float" not in _dtype(x):
        raise NotImplementedError("a divisor is given, and it pools integers or the last window may be cut off")
    size = math.prod(kernel) if len(kernel) == dims else kernel[0] ** dims
    return _wide(lambda y, emit: emit(relax.op.multiply(y, relax.const(size / divisor, y.ty.dtype))), (y,), emit)


def nearest_resize(node: Any, importer: Any) -> relax.Expr:
    """Convert an image resized by its nearest pixels, as torch rounds: down. TVM rounds from the middles of pixels."""
    size = node.meta["val"].shape[2:]
    if not all(isinstance(length, int) for length in size):
        return importer._upsample_nearest2d(node)
    x = importer.env[node.args[0]]
    options = {"coordinate_transformation_mode": "asymmetric", "rounding_method": "floor"}
    return importer.block_builder.emit(relax.op.image.resize2d(x, size, layout="NCHW", method="nearest_neighbor", **options))


def group_norm(node: Any, importer: Any) -> relax.Expr:
    """Convert a group norm, also without weight or bias; half precision in float32, for TVM has none of bfloat16."""
    x, groups, eps = importer.env[node.args[0]], node.args[6], node.args[7]
    channels = [x.ty.shape[1]]
    scale = importer.env[node.args[1]] if node.args[1] is not None else relax.op.ones(channels, x.ty.dtype)
    shift = importer.env[node.args[2]] if node.args[2] is not None else relax.op.zeros(channels, x.ty.dtype)
    axes = list(range(2, len(x.ty.shape)))

    def norm(x: relax.Expr, scale: relax.Expr, shift: relax.Expr, emit: Callable[..., relax.Expr]) -> relax.Expr:
        return emit(relax.op.nn.group_norm(x, scale, shift, num_groups=groups, channel_axis=1, axes=axes, epsilon=eps))

    return _wide(norm, (x, scale, shift), importer.block_builder.emit)


def _extremum(operator: Callable[..., relax.Expr], x: relax.Expr, emit: Callable[..., relax.Expr], **options: Any) -> relax.Expr:
    """Reduce x. Booleans are reduced as bytes, whose limits TVM knows."""
    if str(x.ty.dtype.dtype) != "bool":
        return emit(operator(x, **options))
    return emit(relax.op.astype(emit(operator(emit(relax.op.astype(x, "int8")), **options)), "bool"))


def any_(node: Any, importer: Any) -> relax.Expr:
    """Convert whether any element is not zero; TVM's importer takes the largest for it, also of numbers below zero."""
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    axes, keepdims = _options(node, None, False)
    found = x if _dtype(x) == "bool" else emit(relax.op.not_equal(x, relax.const(0, x.ty.dtype)))
    result = _extremum(relax.op.max, found, emit, axis=axes, keepdims=keepdims)
    # of 8-bit numbers torch returns such numbers
    return emit(relax.op.astype(result, "uint8")) if node.meta["val"].dtype == torch.uint8 else result


def finiteness(operator: Callable[..., relax.Expr], node: Any, importer: Any) -> relax.Expr:
    """Convert whether values are NaN or infinite, which booleans never are; TVM does not know it of bfloat16."""
    x, emit = importer.env[node.args[0]], importer.block_builder.emit
    if _dtype(x) == "bool":
        return emit(relax.op.zeros(x.ty.shape, "bool"))
    return _finiteness(operator, x, emit)


def _finiteness(operator: Callable[..., relax.Expr], x: relax.Expr, emit: Callable[..., relax.Expr]) -> relax.Expr:
    return emit(operator(emit(relax.op.astype(x, "float32")) if _dtype(x) in IN_FLOAT32 else x))


def bucketize(node: Any, importer: Any) -> relax.Expr:
    """Convert between which boundaries values lie; NaN is behind all of them, where TVM finds it before the first."""
    x, boundaries = (importer.env[arg] for arg in node.args[:2])
    emit, options = importer.block_builder.emit, (node.kwargs.get(name, False) for name in ("out_int32", "right"))
    place = emit(relax.op.bucketize(x, boundaries, *options))
    if "float" not in _dtype(x):
        return place
    last = emit(relax.op.full_like(place, relax.const(int(boundaries.ty.shape[0]), place.ty.dtype)))
    return emit(relax.op.where(_finiteness(relax.op.isnan, x, emit), last, place))


def running(operator: Callable[..., relax.Expr], node: Any, importer: Any) -> relax.Expr:
    """Convert a running sum or product in torch's dtype of the result, which is int64 for booleans, half precision in float32.

    TVM would add booleans as booleans. Masks of causal language models use it to count where sequences begin.
    """
    emit, dim = importer.block_builder.emit, node.args[1]
    x = emit(relax.op.astype(importer.env[node.args[0]], str(node.meta["val"].dtype).removeprefix("torch.")))
    return _wide(lambda x, emit: emit(operator(x, dim)), (x,), emit)


def concatenate(node: Any, importer: Any) -> relax.Expr:
    """Convert tensors put behind each other. torch passes over empty ones without the other dimensions, as `torch.tensor([])`,
    with which caches of transformers begin.
    """
    dims = node.meta["val"].ndim
    parts = [importer.env[part] for part in node.args[0] if part.meta["val"].ndim == dims]
    return importer.block_builder.emit(relax.op.concat(parts, axis=_options(node, 0)[0]))


def compare(operator: Callable[[Any, Any], relax.Expr], node: Any, importer: Any) -> relax.Expr:
    """Convert a comparison; booleans as bytes, for LLVM refuses what TVM makes of vectors of them.

    TVM takes x == x for true, but it asks whether x is a number: whether it is at most infinity.
    """
    emit = importer.block_builder.emit
    x, y = _tensors(node, importer)
    if x.same_as(y) and "float" in _dtype(x) and operator not in (relax.op.less, relax.op.greater):
        number = emit(relax.op.less_equal(x, relax.const(math.inf, x.ty.dtype)))
        return emit(relax.op.logical_not(number)) if operator is relax.op.not_equal else number
    if all(_dtype(side) == "bool" for side in (x, y)):
        x, y = (emit(relax.op.astype(side, "int8")) for side in (x, y))
    return emit(operator(x, y))


def scaled_sum(operator: Callable[[Any, Any], relax.Expr], node: Any, importer: Any) -> relax.Expr:
    """Convert x + alpha * y, of which TVM's importer leaves out alpha; true and false are added as "or"."""
    emit, alpha = importer.block_builder.emit, node.kwargs.get("alpha", 1)
    x, y = _tensors(node, importer)
    if _dtype(x) == "bool":
        return emit(relax.op.logical_or(x, y))
    return emit(operator(x, y if alpha == 1 else emit(relax.op.multiply(y, relax.const(alpha, y.ty.dtype)))))


def divide(node: Any, importer: Any, rounding: str | None = None) -> relax.Expr:
    """Convert a division that rounds down or to zero; that of floats by way of the remainder, because x / y may round up."""
    emit, mode = importer.block_builder.emit, rounding or node.kwargs.get("rounding_mode")
    x, y = _tensors(node, importer)
    if mode == "floor" and "float" not in _dtype(x):
        return emit(relax.op.floor_divide(x, y))
    if mode == "floor":
        return _wide(_floor_divide, (x, y), emit)
    quotient = emit(relax.op.divide(x, y))
    return emit(relax.op.trunc(quotient)) if mode == "trunc" and "float" in _dtype(quotient) else quotient


def remainder(node: Any, importer: Any) -> relax.Expr:
    """Convert the remainder that has the sign of the divisor; that of floats is exact, of which x - y * floor(x / y) is far."""
    emit = importer.block_builder.emit
    x, y = _tensors(node, importer)
    return _wide(_floor_mod, (x, y), emit) if "float" in _dtype(x) else emit(relax.op.floor_mod(x, y))


def _floor_mod(x: relax.Expr, y: relax.Expr, emit: Callable[..., relax.Expr]) -> relax.Expr:
    rest, zero = emit(relax.op.mod(x, y)), relax.const(0, x.ty.dtype)
    above, below = emit(relax.op.greater(rest, zero)), emit(relax.op.less(rest, zero))
    off = emit(relax.op.where(emit(relax.op.less(y, zero)), above, below))
    return emit(relax.op.where(off, emit(relax.op.add(rest, y)), rest))


def _floor_divide(x: relax.Expr, y: relax.Expr, emit: Callable[..., relax.Expr]) -> relax.Expr:
    """floor(x / y), which is the whole number nearest to (x - remainder) / y; infinite where y is zero."""
    exact = emit(relax.op.divide(emit(relax.op.subtract(x, _floor_mod(x, y, emit))), y))
    by_zero = emit(relax.op.equal(y, relax.const(0, x.ty.dtype)))
    return emit(relax.op.where(by_zero, emit(relax.op.divide(x, y)), emit(relax.op.round(exact))))


def _wide(function: Callable[..., relax.Expr], operands: Sequence[relax.Expr], emit: Callable[..., relax.Expr]) -> relax.Expr:
    """Compute a function of tensors of one dtype, half precision in float32."""
    dtype = operands[0].ty.dtype
    if str(dtype.dtype) not in IN_FLOAT32:
        return function(*operands, emit)
    return emit(relax.op.astype(function(*(emit(relax.op.astype(x, "float32")) for x in operands), emit), dtype))


def copy(node: Any, importer: Any) -> relax.Expr:
    """Convert the values of one tensor in the dtype and shape of another; TVM's would also overwrite that."""
    like, x, emit = *(importer.env[arg] for arg in node.args[:2]), importer.block_builder.emit
    return emit(relax.op.broadcast_to(emit(relax.op.astype(x, like.ty.dtype)), like.ty.shape))


def native_dropout(node: Any, importer: Any) -> relax.Expr:
    """Convert dropout as it is in evaluation: its input, and a mask that keeps all."""
    x = importer.env[node.args[0]]
    if node.args[2]:
        raise NotImplementedError(
            "it drops values at random; export the model in eval mode, and give dropout training=self.training"
        )
    return importer.block_builder.emit(relax.Tuple([x, relax.op.ones(x.ty.shape, "bool")]))


def power(node: Any, importer: Any) -> relax.Expr:
    """Convert x ** y; integers by squaring where y is a number, or of 8 bits, and else by way of float64."""
    emit = importer.block_builder.emit
    x, y = _tensors(node, importer)
    exponent = node.args[1]
    if exponent in ROOTS and _dtype(x) in ("bfloat16", "float32", "float64"):  # torch takes them, which are NaN for -inf
        return emit(ROOTS[exponent](x))
    if "int" not in _dtype(x):
        return emit(relax.op.power(x, y))
    if not isinstance(exponent, int):
        if _dtype(x) == "uint8":
            return _power_of_bytes(x, y, emit)
        wide = [emit(relax.op.astype(side, "float64")) for side in (x, y)]
        return emit(relax.op.astype(emit(relax.op.round(emit(relax.op.power(*wide)))), x.ty.dtype))
    result, square = relax.const(1, x.ty.dtype), x
    while exponent:
        result = emit(relax.op.multiply(result, square)) if exponent % 2 else result
        exponent //= 2
        square = emit(relax.op.multiply(square, square)) if exponent else square
    return emit(relax.op.broadcast_to(result, x.ty.shape)) if node.args[1] == 0 else result


def _power_of_bytes(x: relax.Expr, y: relax.Expr, emit: Callable[..., relax.Expr]) -> relax.Expr:
    """x ** y bit by bit of y, which wraps as torch's does; float64 would lose the lowest bits of 254 ** 9."""
    one = relax.const(1, x.ty.dtype)
    result, square, rest = one, x, y
    for _ in range(8):
        odd = emit(relax.op.equal(emit(relax.op.bitwise_and(rest, one)), one))
        result = emit(relax.op.where(odd, emit(relax.op.multiply(result, square)), result))
        square, rest = emit(relax.op.multiply(square, square)), emit(relax.op.right_shift(rest, one))
    return result


def product(node: Any, importer: Any) -> relax.Expr:
    """Convert a product along an axis, in torch's dtype of the result."""
    axis, keepdims = _options(node, 0, False)[:2]
    emit = importer.block_builder.emit
    x = emit(relax.op.astype(importer.env[node.args[0]], str(node.meta["val"].dtype).removeprefix("torch.")))
    return _wide(lambda x, emit: emit(relax.op.prod(x, [axis], keepdims)), (x,), emit)


def affine_grid(node: Any, importer: Any) -> relax.Expr:
    """Refuse a grid of integers; one of floats is broken down before."""
    raise NotImplementedError("it makes a grid of integers, which has no places between -1 and 1; give theta.float()")


def clamp(node: Any, importer: Any) -> relax.Expr:
    """Convert values held between two, each a number, a tensor or none; TVM takes infinity for none, also of integers."""
    emit, x = importer.block_builder.emit, importer.env[node.args[0]]
    low, high = (
        node.kwargs.get(name, node.args[place] if len(node.args) > place else None) for place, name in ((1, "min"), (2, "max"))
    )
    for bound, operator in ((low, relax.op.maximum), (high, relax.op.minimum)):
        if bound is not None:
            x = emit(operator(x, _tensor(bound, x.ty.dtype, importer)))
    return x


def hardtanh(node: Any, importer: Any) -> relax.Expr:
    """Convert values held between two numbers, which for integers torch cuts to integers first."""
    x, bounds = importer.env[node.args[0]], _options(node, -1.0, 1.0)
    return importer.block_builder.emit(relax.op.clip(x, *(bounds if "float" in _dtype(x) else map(int, bounds))))


def arange(node: Any, importer: Any) -> relax.Expr:
    """Convert numbers at equal distances; downwards to a constant, because TVM counts those one too many."""
    bounds, dtype = [*node.args, 1][:3], node.meta["val"].dtype  # the step is 1 by default
    if dtype == torch.bfloat16 or not all(isinstance(bound, int | float) for bound in bounds) or bounds[2] > 0:
        return importer._arange(node)
    return relax.const(torch.arange(*bounds, dtype=dtype).numpy())


def shift(operator: Callable[..., relax.Expr], node: Any, importer: Any) -> relax.Expr:
    """Convert bits shifted by places; either may be a number."""
    return importer.block_builder.emit(operator(*_tensors(node, importer)))


def in_float32(function: Callable[..., relax.Expr], node: Any, importer: Any) -> relax.Expr:
    """Convert a function of one tensor that is written in several operators: those of half precision in float32."""
    return _wide(function, (importer.env[node.args[0]],), importer.block_builder.emit)


def elu(node: Any, importer: Any) -> relax.Expr:
    """Convert scale * (x if x > 0 else alpha * (e ** (input_scale * x) - 1)), of which TVM's importer knows alpha alone."""
    alpha, scale, input_scale = _options(node, 1.0, 1.0, 1.0)

    def function(x: relax.Expr, emit: Callable[..., relax.Expr]) -> relax.Expr:
        def times(y: relax.Expr, factor: float) -> relax.Expr:
            return y if factor == 1 else emit(relax.op.multiply(y, relax.const(factor, y.ty.dtype)))

        below = times(_expm1(times(x, input_scale), emit), alpha * scale)
        return emit(relax.op.where(emit(relax.op.greater(x, relax.const(0, x.ty.dtype))), times(x, scale), below))

    return in_float32(function, node, importer)


def _log1p(x: relax.Expr, emit: Callable[..., relax.Expr]) -> relax.Expr:
    """log(1 + x) that keeps a small x: 2 atanh(s) with s = x / (2 + x), by its series. TVM would simplify (1 + x) - 1 to x."""

    def constant(value: float) -> relax.Expr:
        return relax.const(value, x.ty.dtype)

    s = emit(relax.op.divide(x, emit(relax.op.add(x, constant(2)))))
    square = emit(relax.op.multiply(s, s))
    series = constant(1 / 9)
    for coefficient in (1 / 7, 1 / 5, 1 / 3, 1.0):
        series = emit(relax.op.add(emit(relax.op.multiply(series, square)), constant(coefficient)))
    small = emit(relax.op.multiply(emit(relax.op.multiply(s, constant(2))), series))
    near = emit(relax.op.less(emit(relax.op.abs(x)), constant(0.25)))
    return emit(relax.op.where(near, small, emit(relax.op.log(emit(relax.op.add(x, constant(1)))))))


def _expm1(x: relax.Expr, emit: Callable[..., relax.Expr]) -> relax.Expr:
    """e ** x - 1 that keeps a small x, by its series."""
    one = relax.const(1, x.ty.dtype)
    series = one
    for divisor in (6, 5, 4, 3, 2):
        part = emit(relax.op.multiply(emit(relax.op.multiply(x, relax.const(1 / divisor, x.ty.dtype))), series))
        series = emit(relax.op.add(part, one))
    near = emit(relax.op.less(emit(relax.op.abs(x)), relax.const(0.25, x.ty.dtype)))
    return emit(relax.op.where(near, emit(relax.op.multiply(x, series)), emit(relax.op.subtract(emit(relax.op.exp(x)), one))))


def _atanh(x: relax.Expr, emit: Callable[..., relax.Expr]) -> relax.Expr:
    """(log(1 + x) - log(1 - x)) / 2, which keeps a small x."""
    difference = emit(relax.op.subtract(_log1p(x, emit), _log1p(emit(relax.op.negative(x)), emit)))
    return emit(relax.op.multiply(difference, relax.const(0.5, x.ty.dtype)))


def _sinh(x: relax.Expr, emit: Callable[..., relax.Expr]) -> relax.Expr:
    """(e ** x - e ** -x) / 2, of which LLVM knows no function; a small x is kept by e ** x - 1."""
    half, one, t = relax.const(0.5, x.ty.dtype), relax.const(1, x.ty.dtype), _expm1(x, emit)
    small = emit(relax.op.add(t, emit(relax.op.divide(t, emit(relax.op.add(t, one))))))
    far = emit(relax.op.subtract(emit(relax.op.exp(x)), emit(relax.op.exp(emit(relax.op.negative(x))))))
    near = emit(relax.op.less(emit(relax.op.abs(x)), one))
    return emit(relax.op.multiply(emit(relax.op.where(near, small, far)), half))


def _cosh(x: relax.Expr, emit: Callable[..., relax.Expr]) -> relax.Expr:
    total = emit(relax.op.add(emit(relax.op.exp(x)), emit(relax.op.exp(emit(relax.op.negative(x))))))
    return emit(relax.op.multiply(total, relax.const(0.5, x.ty.dtype)))


def _logarithm(of_base: float, x: relax.Expr, emit: Callable[..., relax.Expr]) -> relax.Expr:
    return emit(relax.op.multiply(emit(relax.op.log(x)), relax.const(1 / of_base, x.ty.dtype)))


def _options(node: Any, *defaults: Any) -> Sequence[Any]:
    """The operands after the first; what is not given is as by default."""
    given = list(node.args[1:])
    return given + list(defaults[len(given) :])


def _tensors(node: Any, importer: Any) -> list[relax.Expr]:
    """The first two operands, a number as a tensor of the other's dtype, which is that of both after promotion."""
    dtype = next(
        importer.env[arg].ty.dtype for arg in node.args[:2] if hasattr(arg, "meta") and hasattr(arg.meta["val"], "dtype")
    )
    return [_tensor(arg, dtype, importer) for arg in node.args[:2]]


def _tensor(operand: Any, dtype: Any, importer: Any) -> relax.Expr:
    """A tensor, a number, or a size of a tensor, as an expression."""
    value = importer.env[operand] if hasattr(operand, "meta") else operand
    if isinstance(value, bool | int | float):
        return relax.const(value, dtype)
    if isinstance(value.ty, relax.TensorType):
        return value
    return importer._prim_value_to_scalar_tensor(value, str(dtype.dtype))


def _dtype(x: relax.Expr) -> str:
    return str(x.ty.dtype.dtype)


def slice_(node: Any, importer: Any) -> relax.Expr:
    """Convert a slice whose end is known only at the call, such as position_ids[:, :length].

    TVM assumes that the end may lie past the tensor's: the length becomes min(length, 512), which
    equals nothing else, and from the next addition on shapes are unknown. If the allowed sizes
    never reach so far, this converter tells TVM; and so for x[:, :-1].
    """
    x, dim, start, end, step = [*node.args, *(None,) * 5][:5]
    source, dim, start = importer.env[x], dim or 0, start or 0
    size = node.meta["val"].shape[dim]
    if isinstance(size, int) and size == 0:  # TVM would give a length below zero
        return _slice_inside(importer, source, dim, 0, 0)
    if _leaves_out_the_last(node, dim, start, end, step):
        return _slice_inside(importer, source, dim, start, source.ty.shape[dim] + end)
    if not _ends_inside(node, dim, start, end, step):
        return importer._slice(node)
    return _slice_inside(importer, source, dim, start, importer.env[end])


def _slice_inside(importer: Any, x: relax.Expr, dim: int, start: Any, end: Any) -> relax.Expr:
    """Emit a slice whose end is known not to lie past the tensor's."""
    return importer.block_builder.emit(relax.op.strided_slice(x, [dim], [start], [end], assume_inbound=True))


def split(node: Any, importer: Any) -> Any:
    """Convert parts of a tensor along a dimension to a slice each, which is fused with what reads it; TVM's split is not."""
    x, sizes, dim = importer.env[node.args[0]], node.args[1], node.args[2] if len(node.args) > 2 else 0
    axis = dim % len(x.ty.shape)
    length = x.ty.shape[axis]
    if not isinstance(length, tvm.tirx.IntImm) or not all(isinstance(size, int) for size in pytree.tree_leaves(sizes)):
        return importer._split(node)
    lengths = list(sizes) if isinstance(sizes, (list, tuple)) else [part.shape[axis] for part in node.meta["val"]]
    parts, start = [], 0
    for size in lengths:
        parts.append(_slice_inside(importer, x, axis, start, start + size))
        start += size
    return tuple(parts)


def _leaves_out_the_last(node: Any, dim: int, start: Any, end: Any, step: Any) -> bool:
    """Whether a slice leaves out some of the last elements of a size that changes, and torch knows that there are as many."""
    size, cut = node.args[0].meta["val"].shape[dim], node.meta["val"].shape[dim]
    if not (isinstance(start, int) and start >= 0 and isinstance(end, int) and end < 0 and step in (None, 1)):
        return False
    return isinstance(size, torch.SymInt) and isinstance(cut, torch.SymInt) and cut.node.expr == (size + end - start).node.expr


def _ends_inside(node: Any, dim: int, start: Any, end: Any, step: Any) -> bool:
    """Whether a slice takes everything from `start` up to a symbolic `end` that no allowed call
    puts past the tensor.
    """
    last, size = getattr(end, "meta", {}).get("val"), node.args[0].meta["val"].shape[dim]
    if not (
        isinstance(start, int) and start >= 0 and step in (None, 1) and isinstance(size, int) and isinstance(last, torch.SymInt)
    ):
        return False
    symbol = last.node
    cut = node.meta["val"].shape[dim]
    most = symbol.shape_env.bound_sympy(symbol.expr).upper
    return isinstance(cut, torch.SymInt) and cut.node.expr == (last - start).node.expr and bool(most <= size)
