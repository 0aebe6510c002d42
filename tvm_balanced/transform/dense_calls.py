"""What a call of one of our dense operators is for its kernels: workloads, and matrices."""

import math
from typing import Any

from tvm import relax, tirx

from tvm_balanced.core.layer_plan import Bucket, buckets_from_attr
from tvm_balanced.ops import conv_of, residual_of
from tvm_balanced.schedules import ALL_KERNELS, Workload
from tvm_balanced.schedules.multi_kernel import Variant


def variants_of(call: relax.Call) -> tuple[Variant, ...]:
    """Return what a call of one of the operators is for each of its kernels."""
    return tuple(Variant(_workload(call, bucket), bucket.rows) for bucket in buckets_from_attr(call.attrs["buckets"]))


def _workload(call: relax.Call, bucket: Bucket) -> Workload:
    conv, shape = conv_of(call), list(call.args[0].ty.shape)
    rows = shape[:-1] if conv is None else [shape[0], tirx.IntImm("int64", conv.pixels)]
    assert bucket.kernel is not None
    return ALL_KERNELS[bucket.kernel].workload(
        math.prod(int(d) for d in rows) if all(isinstance(d, tirx.IntImm) for d in rows) else None,
        int(call.ty.shape[-1 if conv is None else 1]),
        int(shape[-1]) if conv is None else conv.depth * conv.taps,
        bucket.pattern,
        str(call.ty.dtype.dtype),
        activation=str(call.attrs["activation"]),
        residual=residual_of(call) is not None,
        conv=None if conv is None else conv.flattened(),
    )


def matrices_of(call: relax.Call) -> tuple[list[Any], list[Any]]:
    """Return the shapes of x and y as a kernel has them: rows of a dense layer, whole images of a convolution."""

    def product(dims: list[Any]) -> Any:
        return math.prod(dims, start=tirx.IntImm("int64", 1))

    x, y = list(call.args[0].ty.shape), list(call.ty.shape)
    if conv_of(call) is not None:
        return [x[0], product(x[1:])], [x[0], product(y[1:])]
    return [product(x[:-1]), x[-1]], [product(y[:-1]), y[-1]]
