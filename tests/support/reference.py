"""References for the tests: NumPy in float64, and random weights."""

import math
import re

import numpy as np
import tvm

from tvm_balanced.compiler.build import build
from tvm_balanced.core.dtypes import numpy_dtype
from tvm_balanced.core.encoding import encode
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.tensors import view
from tvm_balanced.schedules import KERNELS, DenseKernel, Workload
from tvm_balanced.testing import opencl

ACTIVATIONS = {
    "none": lambda v: v,
    "relu": lambda v: np.maximum(v, 0),
    "gelu": lambda v: 0.5 * v * (1 + np.vectorize(math.erf, otypes=[np.float64])(v / np.sqrt(2))),
    "gelu_tanh": lambda v: 0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))),
    "silu": lambda v: v / (1 + np.exp(-v)),
}
# A smooth activation is its argument times a factor from 0 to 1. How far that factor may be off, which test_activations.py and
# test_activations_avx512.py check: half of erf's 4e-7 for gelu, 3.2e-7 by AVX-512. A sum's error grows by at most its largest
# derivative.
FACTOR_ERROR = {"none": 0.0, "relu": 0.0, "gelu": 3.2e-7, "gelu_tanh": 2e-7, "silu": 2e-7}
STEEPEST = {"none": 1.0, "relu": 1.0, "gelu": 1.13, "gelu_tanh": 1.13, "silu": 1.1}


def balanced(n, k, pattern, rng, dtype=np.float32):
    """Return a dense weight (N, K) with as many nonzeros in every block as the pattern keeps."""
    weight = np.zeros((n, k), dtype)
    for block in range(pattern.blocks(k)):
        start, stop = block * pattern.block, min(k, (block + 1) * pattern.block)
        keep = pattern.kept(stop - start)
        columns = np.argsort(rng.random((n, stop - start)), axis=1)[:, :keep] + start
        values = rng.standard_normal((n, keep)).astype(dtype)
        values[values == 0] = 1
        np.put_along_axis(weight, columns, values, axis=1)
    return weight


def linear(x, weight, bias, residual):
    """x @ weight^T + bias + residual in float64; None adds nothing."""
    y = x.astype(np.float64) @ weight.astype(np.float64).T
    for addend in (bias, residual):
        y = y if addend is None else y + addend.astype(np.float64)
    return y


def dense(x, weight, bias=None, activation="none", residual=None):
    """activation(x @ weight^T + bias + residual) in float64."""
    return ACTIVATIONS[activation](linear(x, weight, bias, residual))


def allowed_error(x, weight, bias=None, activation="none", residual=None):
    """How far a float32 kernel may be off `dense`, (M, N): what rounding the sum can do, and the activation's own error.

    A sum of n terms is off by at most n roundings of its terms' magnitudes. They cancel as in a random walk, so from four terms
    on twice the root of n is allowed; the largest error that was seen is 0.6 of the root.
    """
    terms = np.count_nonzero(weight, axis=1) + 2  # bias and residual
    roundings = np.minimum(terms, 2 * np.sqrt(terms)) * 2.0**-24
    sizes = (None if a is None else np.abs(a) for a in (x, weight, bias, residual))
    magnitude, total = (linear(*operands) for operands in (sizes, (x, weight, bias, residual)))
    return STEEPEST[activation] * roundings * magnitude + FACTOR_ERROR[activation] * np.abs(total)


def rounded(a, dtype):
    """A float32 array with the precision of `dtype`; None stays None."""
    return None if a is None else a.astype(numpy_dtype(dtype)).astype(np.float32)


def relative_error(got, want):
    return np.abs(np.asarray(got, np.float64) - want).max() / max(np.abs(want).max(), 1e-30)


def compile_kernel(
    name, weight, pattern, bias=None, m=None, activation="none", target=None, residual=False, dtype="float32", finish=lambda f: f
):
    """Pack, schedule and build one kernel; return a function of x (M, K), and the residual (M, N) if any, to y (M, N).

    All arrays are float32; those of another `dtype` are rounded to it on their way in. `finish` may change the function.
    """
    as_dtype = numpy_dtype(dtype)
    weight = weight.astype(as_dtype)
    kernel, target = KERNELS[name], target or host_target()
    n, k = weight.shape
    if isinstance(kernel, DenseKernel):
        workload, packed = Workload(name, m, n, k, 1, 1, dtype, activation=activation, residual=residual), kernel.pack(weight)
    else:
        workload = Workload(name, m, n, k, pattern.nnz, pattern.block, dtype, activation=activation, residual=residual)
        packed = kernel.pack(encode(weight, pattern))
    bias = np.zeros(n, as_dtype) if bias is None else bias.astype(as_dtype)
    function = finish(kernel.schedule(kernel.prim_func(workload), workload, target)).with_attr("global_symbol", "main")
    library = build(function, target)
    tensors = [tvm.runtime.tensor(a) for a in (*packed, kernel.pack_bias(bias))]

    def run(x, *residual):
        # canaries: the kernel must write all of y and nothing else
        y = tvm.runtime.tensor(np.full((len(x), n), np.nan, as_dtype))
        given = [tvm.runtime.tensor(a.astype(as_dtype)) for a in (x, *residual)]
        library["main"](given[0], *tensors, *given[1:], y)
        return view(y).astype(np.float32)

    return run


def gpu_arguments(workload, weight, x, bias=None, residual=None):
    """Return the arguments of a GPU kernel's function, in the layout of `workload`; the last is the
    output, full of NaN.
    """
    kernel, as_dtype = KERNELS[workload.kernel], numpy_dtype(workload.dtype)
    weight = weight.astype(as_dtype)
    packed = kernel.pack(weight) if isinstance(kernel, DenseKernel) else kernel.pack(encode(weight, workload.pattern))
    bias = np.zeros(workload.n, as_dtype) if bias is None else bias.astype(as_dtype)
    residuals = [] if residual is None else [residual.astype(as_dtype)]
    y = np.full((len(x), workload.n), np.nan, as_dtype)
    return [x.astype(as_dtype), *packed, kernel.pack_bias(bias), *residuals, y]


def run_on_opencl(workload, arguments, platform="Portable", schedule=None):
    """Run a GPU kernel, scheduled by its defaults or by `schedule`, through OpenCL; return y in float32."""
    kernel = KERNELS[workload.kernel]
    func = (schedule or kernel.schedule_tiles)(kernel.prim_func(workload), workload, opencl.target())
    return opencl.run(func, arguments, platform).astype(np.float32)


def counter(name):
    """Return LLVM IR of a function `name` that adds one to the int32 at an address."""
    return f"""
define linkonce_odr i32 @{name}(ptr %line) {{
  %count = load i32, ptr %line
  %more = add i32 %count, 1
  store i32 %more, ptr %line
  ret i32 0
}}
"""


def innermost_loop(lines):
    """Return the code between a label and the jump back to it with the most multiply-adds per line."""
    labels = {line.split(":")[0]: at for at, line in enumerate(lines) if line.startswith(".L")}
    jumps = [(labels.get(j[1], at), at) for at, line in enumerate(lines) if (j := re.match(r"\tj\w+\t(\.L\w+)", line))]
    loops = [lines[start:end] for start, end in jumps if start < end]
    return max(loops, key=lambda loop: sum("vfmadd" in line for line in loop) / len(loop))
