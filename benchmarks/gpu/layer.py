"""One layer to measure: its weight dense and packed, x, and kernels bound to copies of them that calls rotate through."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np
import torch
from tvm import tirx

from benchmarks.gpu.device import Device
from tvm_balanced.core.caches import CACHE_MULTIPLE
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import ALL_KERNELS, KERNELS, SparseKernel, Workload
from tvm_balanced.testing.operands import axis_of_rows, random_weight
from tvm_balanced.timing.paired import Implementation

# Rows of a weight that are drawn; further rows repeat them. Drawing and packing 16384x8192 on the
# host would take longer than timing it, and a kernel cannot tell. Layouts group rows by powers of
# two.
DRAWN_ROWS = 1024
MOST_COPIES = 256  # weights of less than a 64th of the cache are therefore measured in the cache
LIMITS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}  # largest errors, relative to the largest result in float64


def limit_of(kernel: str, dtype: str) -> float:
    """Return the largest error that a kernel may have in a dtype; more for one that rounds weights."""
    return max(LIMITS[dtype], ALL_KERNELS[kernel].tolerance or 0)


@dataclass(frozen=True)
class Cell:
    """y (M, N) = x (M, K) @ weight (N, K)^T at a pattern, by one kernel in its default or a tuned schedule."""

    n: int
    k: int
    m: int
    pattern: str
    dtype: str
    kernel: str
    schedule: str = "default"

    def __str__(self) -> str:
        return f"{self.n}x{self.k} m{self.m} {self.pattern} {self.dtype} {self.kernel} {self.schedule}"

    @property
    def parsed(self) -> BalancedPattern:
        """The pattern."""
        return BalancedPattern.parse(self.pattern)

    @property
    def workload(self) -> Workload:
        """The workload of the kernel."""
        pattern = self.parsed
        nnz, block = (pattern.nnz, pattern.block) if isinstance(KERNELS[self.kernel], SparseKernel) else (1, 1)
        return Workload(self.kernel, self.m, self.n, self.k, nnz, block, self.dtype)

    @property
    def tuned(self) -> "Cell":
        """The same cell with a tuned schedule."""
        return replace(self, schedule="tuned")

    def row(self) -> dict[str, object]:
        """Return the fields that identify the cell in a CSV."""
        return asdict(self)


def scheduled(cell: Cell, device: Device) -> tirx.PrimFunc:
    """Return a cell's kernel in its default schedule."""
    kernel = KERNELS[cell.kernel]
    return device.schedule(kernel, kernel.prim_func(cell.workload), cell.workload)


def rotate(nbytes: int, device: Device) -> int:
    """Return how many copies of weights of `nbytes` to rotate through so that no cache keeps them; at least two."""
    return max(2, min(MOST_COPIES, 1 + CACHE_MULTIPLE * device.cache_bytes // max(1, nbytes)))


class Layer:
    """A cell's weight and inputs on a device.

    Attributes
    ----------
    dense : torch tensor (N, K)
    x : torch tensor (M, K)
    packed_bytes : int
        Bytes of a packed weight, including its bias.
    """

    def __init__(self, cell: Cell, device: Device) -> None:
        self.cell, self.device, self.kernel = cell, device, KERNELS[cell.kernel]
        dtype = np.dtype(ml_dtypes.bfloat16 if cell.dtype == "bfloat16" else cell.dtype)
        rng = np.random.default_rng(0)
        drawn = random_weight(min(cell.n, DRAWN_ROWS), cell.k, cell.parsed, rng, dtype)
        self._func = self.kernel.prim_func(cell.workload)
        rows = drawn.decode()
        self.dense = self._repeat(rows, (cell.n, cell.k))
        self.x = upload(rng.standard_normal((cell.m, cell.k)).astype(dtype), device)
        parts = self.kernel.pack(drawn) if isinstance(self.kernel, SparseKernel) else self.kernel.pack(rows)  # type: ignore[attr-defined]
        shapes = [[int(d) for d in p.ty.shape] for p in self._func.params[1 : 1 + len(parts)]]
        bias = self.kernel.pack_bias(np.zeros(cell.n, dtype))
        self._weights = [*map(self._repeat, parts, shapes), upload(bias, device)]
        self.packed_bytes = sum(t.numel() * t.element_size() for t in self._weights)

    def _repeat(self, array: Array, shape: Sequence[int]) -> torch.Tensor:
        """Repeat groups of rows, on the device, up to the number in `shape`."""
        axis, given = axis_of_rows(array.shape, shape), upload(array, self.device)
        if array.shape[axis] == shape[axis]:
            return given
        as_bytes = given.unsqueeze(-1).view(torch.uint8)  # torch cannot index unsigned words
        rows = torch.arange(shape[axis], device=given.device) % array.shape[axis]
        return as_bytes.index_select(axis, rows).view(given.dtype).squeeze(-1)

    def default(self) -> tirx.PrimFunc:
        """Return the kernel's function in its default schedule."""
        return scheduled(self.cell, self.device)

    def ours(self, scheduled: tirx.PrimFunc) -> Implementation:
        """Return an implementation that calls the kernel, rotating through copies of the packed
        weight; it returns y (M, N).
        """
        main = self.device.compile(scheduled)
        y = torch.full((self.cell.m, self.cell.n), float("nan"), dtype=self.x.dtype, device=self.x.device)
        calls = [main([self.x, *weights, y]) for weights in self._rotation]

        def run(call: int) -> torch.Tensor:
            calls[call % len(calls)]()
            return y

        return run

    @cached_property
    def _rotation(self) -> list[list[torch.Tensor]]:
        """Copies of the packed weight, shared by everything compiled for this layer."""
        more = rotate(self.packed_bytes, self.device) - 1
        return [self._weights, *([t.clone() for t in self._weights] for _ in range(more))]

    def bytes_moved(self) -> int:
        """Return the fewest bytes that a call must move."""
        size = self.x.element_size()
        return self.packed_bytes + size * self.cell.m * (self.cell.k + self.cell.n)


def upload(array: Array, device: Device) -> torch.Tensor:
    """Copy an array to a torch tensor on a device. Torch aligns new memory as TVM needs it."""
    array = np.ascontiguousarray(array)
    if array.dtype.name != "bfloat16":
        return torch.from_numpy(array).clone().to(device.torch)
    return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).clone().to(device.torch)


def error_of(y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> float:
    """Return the largest error of y (M, N) against x @ weight^T in float64, relative to the largest
    result. NaN never passes.
    """
    expected = x.double() @ weight.double().T
    if y.shape != expected.shape:
        return float("inf")
    error = (y.double() - expected).abs().max() / expected.abs().max()
    return float(error) if torch.isfinite(error) else float("inf")


def check(name: str, y: Any, x: torch.Tensor, weight: torch.Tensor, limit: float) -> float:
    """Return the error of a result; raises RuntimeError if it is above `limit`."""
    error = error_of(y, x, weight)
    if not error <= limit:
        raise RuntimeError(f"{name} is wrong: relative error {error:.1e}, {limit:.0e} is allowed")
    return error
