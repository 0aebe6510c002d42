"""A layer or a convolution that a library of the process computes where there is one, else the kernel that is compiled.

rewrite: the scheduled `kernel(x, weight, bias[, residual], y)` -->

    for _ in range(1 - call_packed("tvm_balanced.dense_by_library", ...)):
        kernel

The function answers 1 if it has written y. It gets addresses, so the weight must lie as rows of K
elements. Both use one copy of it, and an artifact runs with the library and without.
"""

import json

import tvm
from tvm import s_tir, tirx

from tvm_balanced.core.library_functions import CONV
from tvm_balanced.schedules.base.kernel import Kernel
from tvm_balanced.schedules.base.workload import Workload


def prefer_library(func: tirx.PrimFunc, kernel: Kernel, workload: Workload, target: tvm.target.Target) -> tirx.PrimFunc:
    """Return the scheduled function of a layer or a convolution that asks the library first; any other as it is.

    Parameters
    ----------
    func : tirx.PrimFunc
        (x, weight, bias[, residual], y).
    kernel : Kernel
    workload : Workload
    target : tvm.target.Target
    """
    stride, conv = kernel.row_stride(workload), workload.conv
    if stride is None or (conv is not None and conv.spread != (1, 1, 1)):  # torch's own transposed one has another weight
        return func
    x, weight, bias, *residuals, y = func.params
    none = tirx.reinterpret("handle", tirx.IntImm("uint64", 0))
    addresses = [y.data, x.data, weight.data, bias.data, residuals[0].data if residuals else none]
    if conv is None:
        name, shape = kernel.library, [x.ty.shape[0], workload.n, workload.k, stride, *kernel.library_arguments(workload, target)]
    else:
        name, shape = CONV, [json.dumps(conv.to_attr()), x.ty.shape[0], workload.n]
    done = tirx.call_packed(name, target.kind.name, workload.dtype, workload.activation, *shape, *addresses)
    times = tirx.IntImm("int64", 1) - tirx.Cast("int64", done)
    loop = tirx.For(tirx.Var("own", "int64"), tirx.IntImm("int64", 0), times, tirx.ForKind.SERIAL, func.body)
    return func.with_body(s_tir.SBlockRealize([], tirx.IntImm("bool", 1), s_tir.SBlock([], [], [], "root", loop)))
