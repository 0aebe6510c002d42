"""Arguments of a kernel: a random weight, packed like a model's so that every index is valid, and
the expected result.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm

from tvm_balanced.core.dtypes import numpy_dtype
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS, DenseKernel, SparseKernel, Workload

# Rows of a weight that are drawn; further rows repeat them. Drawing and packing 28672x8192 would
# take a minute, and a kernel cannot tell. Layouts group rows by powers of two.
DRAWN_ROWS = 1024


@dataclass(frozen=True)
class Arguments:
    """The arguments of a kernel's function before its result y (M, N).

    Parameters
    ----------
    given : list of arrays
        x (M, K), the packed weight, the packed bias, and the residual (M, N) if any.
    reference : callable
        Computes y in float64, without the kernel.
    packed : int
        Bytes of the packed weight and bias.
    """

    given: list[Array]
    reference: Callable[[], Array]
    packed: int


def draw(workload: Workload, seed: int = 0) -> Arguments:
    """Draw random arguments of a workload with a known M."""
    assert workload.m is not None
    rng, dtype, kernel = np.random.default_rng(seed), numpy_dtype(workload.dtype), KERNELS[workload.kernel]
    drawn = min(workload.n, DRAWN_ROWS)
    weight = draw_weight(replace(workload, n=drawn), rng)
    bias, x = rng.standard_normal(workload.n).astype(dtype), rng.standard_normal((workload.m, workload.k)).astype(dtype)
    residual = [rng.standard_normal((workload.m, workload.n)).astype(dtype)] if workload.residual else []
    if isinstance(kernel, SparseKernel):
        parts = kernel.pack(weight)
    else:
        assert isinstance(kernel, DenseKernel)
        parts = kernel.pack(weight.decode())
    packed = [*map(repeat_rows, parts, packed_shapes(workload)), kernel.pack_bias(bias)]

    def reference() -> Array:
        sums = x.astype(np.float64) @ weight.decode().astype(np.float64).T
        y = sums[:, np.arange(workload.n) % drawn] + bias.astype(np.float64)
        activated: Array = ACTIVATIONS[workload.activation](y + sum(r.astype(np.float64) for r in residual))
        return activated

    return Arguments([x, *packed, *residual], reference, sum(a.nbytes for a in packed))


def allocate(workload: str, device: Any, _arguments: Any, copies: int) -> list[list[Any]]:
    """Return `copies` sets of operands and the result of a workload, given as JSON, on a device: MetaSchedule's
    `f_alloc_argument`, whose own operands are random, indices too.
    """
    known = Workload(**json.loads(workload))
    assert known.m is not None
    given = draw(known).given
    result = np.zeros((known.m, known.n), numpy_dtype(known.dtype))
    return [[tvm.runtime.tensor(array, device) for array in (*given, result)] for _ in range(copies)]


def packed_shapes(workload: Workload) -> list[tuple[int, ...]]:
    """Return the shape of each part of a workload's packed weight, without its bias."""
    kernel = KERNELS[workload.kernel]
    params = kernel.prim_func(workload).params[1 : 1 + len(kernel.parts)]
    return [tuple(int(dim) for dim in param.ty.shape) for param in params]


def repeat_rows(part: Array, shape: Sequence[int]) -> Array:
    """Return part of a packed weight of `shape`, with its groups of rows repeated."""
    axis = axis_of_rows(part.shape, shape)
    repeated: Array = np.take(part, np.arange(shape[axis]) % part.shape[axis], axis)
    return repeated


def axis_of_rows(drawn: Sequence[int], whole: Sequence[int]) -> int:
    """Return the one axis along which a packed weight of fewer rows differs from a whole one; the
    first axis if none differs.
    """
    axes = [axis for axis, (have, want) in enumerate(zip(drawn, whole, strict=True)) if have != want]
    if len(axes) > 1:
        raise ValueError(f"packed {tuple(drawn)} cannot be repeated to {tuple(whole)}: the layout mixes rows")
    return axes[0] if axes else 0


def draw_weight(workload: Workload, rng: np.random.Generator) -> EncodedWeight:
    """Draw an encoded weight (N, K) of a workload's pattern with all slots used, scaled so that sums are about 1."""
    pattern, k = workload.pattern, workload.k
    scale = 1 / math.sqrt(pattern.blocks(k) * pattern.nnz)
    return random_weight(workload.n, k, pattern, rng, numpy_dtype(workload.dtype), scale)


def _gelu(y: Array) -> Array:
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return np.asarray(0.5 * y * (1 + erf(y / math.sqrt(2))))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "none": lambda y: y,
    "relu": lambda y: np.maximum(y, 0),
    "gelu": _gelu,
    "gelu_tanh": lambda y: 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3))),
    "silu": lambda y: y / (1 + np.exp(-y)),
}


def random_weight(
    n: int, k: int, pattern: BalancedPattern, rng: np.random.Generator, dtype: Any = np.float32, scale: float = 1.0
) -> EncodedWeight:
    """Return a random, normally distributed weight (N, K) with as many nonzeros in every block as
    the pattern keeps.
    """
    blocks, tail = pattern.blocks(k), pattern.tail(k)
    values = rng.standard_normal((n, blocks, pattern.nnz), dtype=np.float32) * np.float32(scale)
    keys = rng.random((n, blocks, pattern.block), dtype=np.float32)
    keys[:, -1, tail:] = 2  # no index past K
    indices = np.sort(np.argpartition(keys, pattern.nnz - 1, axis=2)[:, :, : pattern.nnz], axis=2).astype(np.uint8)
    unused = np.arange(pattern.nnz) >= pattern.kept(tail)
    order = np.sort(np.argpartition(keys[:, -1], pattern.kept(tail) - 1, axis=1)[:, : pattern.kept(tail)], axis=1)
    indices[:, -1, : pattern.kept(tail)] = order
    indices[:, -1, unused] = tail - 1
    values[:, -1, unused] = 0
    return EncodedWeight(values.astype(dtype), indices, pattern, k)


def relative_error(got: Array, want: Array) -> float:
    """Return the largest difference, relative to the largest expected value; infinite if there is a NaN."""
    error = float(np.abs(got.astype(np.float64) - want).max() / max(float(np.abs(want).max()), 1e-30))
    return error if math.isfinite(error) else math.inf
