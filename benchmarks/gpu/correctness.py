"""Check every kernel on ragged shapes, in every dtype and pattern, against float64."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product

import ml_dtypes
import numpy as np
import torch
from tvm import tirx

from benchmarks.gpu.cells import PATTERNS
from benchmarks.gpu.device import Device
from benchmarks.gpu.layer import limit_of, upload
from tvm_balanced.core.detection import detect
from tvm_balanced.core.encoding import Array, encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import DENSE_KERNELS, KERNELS, DenseKernel, Kernel, SparseKernel, Workload
from tvm_balanced.schedules.kernels.cuda_gemv import CudaGemv
from tvm_balanced.testing.operands import random_weight

COLUMNS = ("gpu", "kernel", "dtype", "pattern", "m", "n", "k", "activation", "residual", "symbolic", "error", "limit")
ROWS = (1, 3, 8, 16, 33, 64)
# N, K; the last two have x in several stages. Their number is coprime to that of ROWS, so that
# cycling through both covers all pairs.
SIZES = ((70, 200), (256, 512), (33, 1000), (1000, 77), (4096, 1100), (256, 8196), (512, 8192))
LONG_PATTERNS = ("4:32", "8:64")  # of the kernels that have blocks of more than 16
ACTIVATIONS = ("none", "relu")


@dataclass(frozen=True)
class Case:
    """One kernel at one shape; if `symbolic`, M is known only at the call."""

    kernel: str
    dtype: str
    pattern: str
    m: int
    n: int
    k: int
    activation: str = "none"
    residual: bool = False
    symbolic: bool = False

    def __str__(self) -> str:
        options = (self.activation, "residual" if self.residual else "", "symbolic" if self.symbolic else "")
        shape = f"{self.n}x{self.k} m{self.m} {self.pattern} {self.dtype} {self.kernel}"
        return " ".join((shape, *(option for option in options if option not in ("", "none"))))


def cases(device: Device) -> tuple[list[Case], list[Case]]:
    """Return the first cases (each kernel in each dtype and pattern once, and with a symbolic M) and the rest.

    Rows and sizes are cycled through, so that every kernel gets all of them.
    """
    first, rest = [], []
    kinds: list[tuple[Kernel, str, tuple[str, ...]]] = [
        (kernel, dtype, PATTERNS + (LONG_PATTERNS if isinstance(kernel, CudaGemv) and kernel.long_blocks else ()))
        for dtype in device.dtypes
        for kernel in (*device.kernels(dtype), *device.rounding_kernels(dtype))
    ]
    kinds += [
        (kernel, dtype, PATTERNS[:1])
        for dtype in device.dtypes
        for kernel in DENSE_KERNELS
        if kernel.refuses(device.target, 64, 64, dtype) is None
    ]
    for i, (kernel, dtype, patterns) in enumerate(kinds):
        mixed = list(_deal(kernel.name, dtype, patterns, i))
        first += mixed[: len(patterns)]
        first.append(replace(mixed[0], symbolic=True))
        rest += mixed[len(patterns) :]
    return list(dict.fromkeys(first)), list(dict.fromkeys(rest))


def _deal(kernel: str, dtype: str, patterns: tuple[str, ...], start: int) -> Iterator[Case]:
    """Yield every M with every pattern, along the diagonals."""
    for turn, (i, j) in enumerate(product(range(len(ROWS)), range(len(patterns))), start):
        m, size = ROWS[(start + i + j) % len(ROWS)], SIZES[turn % len(SIZES)]
        yield Case(kernel, dtype, patterns[j], m, *size, ACTIVATIONS[turn % 2], residual=turn % 3 == 0)


def scheduled(case: Case, device: Device) -> tirx.PrimFunc:
    """Return a case's kernel in its default schedule."""
    kernel, workload = KERNELS[case.kernel], _workload(case)
    return device.schedule(kernel, kernel.prim_func(workload), workload)


def _workload(case: Case) -> Workload:
    stored = BalancedPattern.parse(case.pattern) if isinstance(KERNELS[case.kernel], SparseKernel) else BalancedPattern(1, 1)
    m = None if case.symbolic else case.m
    shape = (case.kernel, m, case.n, case.k, stored.nnz, stored.block, case.dtype)
    return Workload(*shape, activation=case.activation, residual=case.residual)


def check(case: Case, device: Device) -> float:
    """Compute a case and return its error relative to the largest result; for a symbolic M, the
    worst of several M.
    """
    return max(_Problem(case, device).errors((*ROWS, 100) if case.symbolic else (case.m,)))


class _Problem:
    """A case's compiled function and its inputs."""

    def __init__(self, case: Case, device: Device) -> None:
        self.case, self.device, self.rng = case, device, np.random.default_rng(0)
        self.dtype = np.dtype(ml_dtypes.bfloat16 if case.dtype == "bfloat16" else case.dtype)
        kernel = KERNELS[case.kernel]
        self.dense = random_weight(case.n, case.k, BalancedPattern.parse(case.pattern), self.rng, self.dtype).decode()
        self.bias = self._draw(case.n)
        parts: tuple[Array, ...] = ()
        if isinstance(kernel, SparseKernel):
            fitting = kernel.fit(detect(self.dense))
            assert fitting == BalancedPattern.parse(case.pattern), f"{kernel.name} stores {case.pattern} as {fitting}"
            parts = kernel.pack(encode(self.dense, fitting))
        elif isinstance(kernel, DenseKernel):
            parts = kernel.pack(self.dense)
        self.weights = [upload(part, device) for part in (*parts, kernel.pack_bias(self.bias))]
        self.main = device.compile(scheduled(case, device))

    def errors(self, rows: tuple[int, ...]) -> Iterator[float]:
        """Yield the error at each M."""
        case, device = self.case, self.device
        for m in rows:
            x, residual = self._draw(m, case.k), self._draw(m, case.n)
            y = upload(np.full((m, case.n), np.nan, self.dtype), device)
            given = [upload(x, device), *self.weights, *([upload(residual, device)] if case.residual else []), y]
            self.main(given)()
            device.synchronize()
            expected = x.astype(np.float64) @ self.dense.T.astype(np.float64) + self.bias.astype(np.float64)
            expected += residual.astype(np.float64) if case.residual else 0
            expected = np.maximum(expected, 0) if case.activation == "relu" else expected
            error = np.abs(y.to("cpu", torch.float64).numpy() - expected).max() / np.abs(expected).max()
            yield float(error) if np.isfinite(error) else float("inf")

    def _draw(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(self.dtype)


def row(case: Case, device: Device, error: float) -> dict[str, object]:
    """Return a case's row in the CSV."""
    return {"gpu": device.name, **asdict(case), "error": f"{error:.1e}", "limit": limit_of(case.kernel, case.dtype)}
