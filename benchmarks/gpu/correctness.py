"""Check every kernel on ragged shapes, in every dtype and pattern, against float64."""

import math
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
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.detection import detect
from tvm_balanced.core.encoding import Array, encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.weight_matrix import CHANNELS_FIRST
from tvm_balanced.schedules import (
    ALL_KERNELS,
    CONV_DENSE_KERNELS,
    DENSE_KERNELS,
    DenseKernel,
    Kernel,
    SparseKernel,
    Workload,
)
from tvm_balanced.schedules.kernels.cuda_gemv import CudaGemv
from tvm_balanced.testing.operands import random_weight

COLUMNS = ("gpu", "kernel", "dtype", "pattern", "m", "n", "k", "activation", "residual", "symbolic", "conv", "error", "limit")
ROWS = (1, 3, 8, 16, 33, 64)
# N, K; the last two have x in several stages. Their number is coprime to that of ROWS, so that
# cycling through both covers all pairs.
SIZES = ((70, 200), (256, 512), (33, 1000), (1000, 77), (4096, 1100), (256, 8196), (512, 8192))
LONG_PATTERNS = ("4:32", "8:64")  # of the kernels that have blocks of more than 16
ACTIVATIONS = ("none", "relu")
# Convolutions by the name in a case
CONVS = {
    name: replace(conv, order=CHANNELS_FIRST)
    for name, conv in {
        "3x3": Convolution(32, (1, 14, 14), (1, 3, 3), before=(0, 1, 1), after=(0, 1, 1)),
        "strided": Convolution(6, (1, 19, 17), (1, 3, 3), (1, 2, 2), before=(0, 1, 0), after=(0, 0, 2)),
        "depthwise": Convolution(24, (1, 12, 12), (1, 3, 3), groups=24),
        "groups": Convolution(8, (1, 16, 16), (1, 3, 1), groups=4),
        "dilated": Convolution(4, (1, 1, 123), (1, 1, 5), dilation=(1, 1, 3)),
        "volume": Convolution(3, (4, 5, 6), (2, 3, 3)),
        "transposed": Convolution(6, (1, 9, 7), (1, 3, 3), before=(0, 2, 1), after=(0, 2, 1), spread=(1, 2, 2)),
    }.items()
}
CONV_ROWS, IMAGES = 24, (1, 2, 5)  # rows of the weight; how many images there are
FIRST_CONVS = ("3x3", "strided", "depthwise")  # the second with a number of images that is known only at the call


@dataclass(frozen=True)
class Case:
    """One kernel at one shape; if `symbolic`, M is known only at the call. `conv` names a convolution of CONVS."""

    kernel: str
    dtype: str
    pattern: str
    m: int
    n: int
    k: int
    activation: str = "none"
    residual: bool = False
    symbolic: bool = False
    conv: str = ""

    def __str__(self) -> str:
        options = (self.conv, self.activation, "residual" if self.residual else "", "symbolic" if self.symbolic else "")
        shape = f"{self.n}x{self.k} m{self.m} {self.pattern} {self.dtype} {self.kernel}"
        return " ".join((shape, *(option for option in options if option not in ("", "none"))))

    @property
    def geometry(self) -> Convolution | None:
        """The convolution; None for a dense layer."""
        return CONVS[self.conv] if self.conv else None

    @property
    def rows(self) -> tuple[int, ...]:
        """Every M at which it is checked."""
        if not self.symbolic:
            return (self.m,)
        return (*ROWS, 100) if self.geometry is None else tuple(images * self.geometry.pixels for images in IMAGES)


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
    for case in _convolutions(device):
        (first if case.conv in FIRST_CONVS else rest).append(case)
    return list(dict.fromkeys(first)), list(dict.fromkeys(rest))


def _deal(kernel: str, dtype: str, patterns: tuple[str, ...], start: int) -> Iterator[Case]:
    """Yield every M with every pattern, along the diagonals."""
    for turn, (i, j) in enumerate(product(range(len(ROWS)), range(len(patterns))), start):
        m, size = ROWS[(start + i + j) % len(ROWS)], SIZES[turn % len(SIZES)]
        yield Case(kernel, dtype, patterns[j], m, *size, ACTIVATIONS[turn % 2], residual=turn % 3 == 0)


def _convolutions(device: Device) -> Iterator[Case]:
    """Yield each convolution for each kernel and dtype."""
    for kernel, dtype in product(CONV_DENSE_KERNELS, device.dtypes):
        if kernel.refuses(device.target, 64, 64, dtype) is not None:
            continue
        for i, (name, conv) in enumerate(CONVS.items()):
            m, k = IMAGES[1] * conv.pixels, conv.depth * conv.taps
            options = {"residual": i % 3 == 0, "symbolic": name == FIRST_CONVS[1], "conv": name}
            yield Case(kernel.name, dtype, "1:1", m, CONV_ROWS, k, ACTIVATIONS[i % 2], **options)


def scheduled(case: Case, device: Device) -> tirx.PrimFunc:
    """Return a case's kernel in its default schedule."""
    kernel, workload = ALL_KERNELS[case.kernel], _workload(case)
    return device.schedule(kernel, kernel.prim_func(workload), workload)


def _workload(case: Case) -> Workload:
    stored = BalancedPattern.parse(case.pattern) if isinstance(ALL_KERNELS[case.kernel], SparseKernel) else BalancedPattern(1, 1)
    m = None if case.symbolic else case.m
    shape = (case.kernel, m, case.n, case.k, stored.nnz, stored.block, case.dtype)
    return Workload(*shape, activation=case.activation, residual=case.residual, conv=case.geometry)


def check(case: Case, device: Device) -> float:
    """Compute a case and return its error relative to the largest result; for a symbolic M, the
    worst of several M.
    """
    return max(_Problem(case, device).errors(case.rows))


class _Problem:
    """A case's compiled function and its inputs."""

    def __init__(self, case: Case, device: Device) -> None:
        self.case, self.device, self.rng = case, device, np.random.default_rng(0)
        self.dtype = np.dtype(ml_dtypes.bfloat16 if case.dtype == "bfloat16" else case.dtype)
        kernel = ALL_KERNELS[case.kernel]
        self.dense = random_weight(case.n, case.k, BalancedPattern.parse(case.pattern), self.rng, self.dtype).decode()
        self.bias = self._draw(case.n)
        parts: tuple[Array, ...] = ()
        if isinstance(kernel, SparseKernel):
            fitting = kernel.fit(detect(self.dense))
            assert fitting == BalancedPattern.parse(case.pattern), f"{kernel.name} stores {case.pattern} as {fitting}"
            parts = kernel.pack(encode(self.dense, fitting))
        elif isinstance(kernel, DenseKernel):
            parts = kernel.pack_for(self.dense, _workload(case))
        self.weights = [upload(part, device) for part in (*parts, kernel.pack_bias(self.bias))]
        self.main = device.compile(scheduled(case, device))

    def errors(self, rows: tuple[int, ...]) -> Iterator[float]:
        """Yield the error at each M."""
        case, device = self.case, self.device
        for m in rows:
            x, residual = (self._draw(*shape) for shape in self._shapes(m))
            y = upload(np.full(residual.shape, np.nan, self.dtype), device)
            given = [upload(x, device), *self.weights, *([upload(residual, device)] if case.residual else []), y]
            self.main(given)()
            device.synchronize()
            expected = self._exact(x.astype(np.float64))
            expected += residual.astype(np.float64) if case.residual else 0
            expected = np.maximum(expected, 0) if case.activation == "relu" else expected
            error = np.abs(y.to("cpu", torch.float64).numpy() - expected).max() / np.abs(expected).max()
            yield float(error) if np.isfinite(error) else float("inf")

    def _shapes(self, m: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the shapes of x and y."""
        case, conv = self.case, self.case.geometry
        if conv is None:
            return (m, case.k), (m, case.n)
        images = m // conv.pixels
        return (images, conv.channels * math.prod(conv.size)), (images, case.n * conv.pixels)

    def _exact(self, x: Array) -> Array:
        """Return the product, or the convolution, with the bias, in float64."""
        conv, weight, bias = self.case.geometry, self.dense.astype(np.float64), self.bias.astype(np.float64)
        if conv is None:
            product: Array = x @ weight.T + bias
            return product
        wide = np.zeros((len(x), conv.channels, *conv.spread_size))
        wide[(slice(None), slice(None), *(slice(None, None, gap) for gap in conv.spread))] = x.reshape(
            len(x), conv.channels, *conv.size
        )
        image = torch.from_numpy(np.pad(wide, [(0, 0), (0, 0), *zip(conv.before, conv.after, strict=True)]))
        kernel = torch.from_numpy(weight.reshape(len(weight), conv.depth, *conv.kernel))
        y = torch.nn.functional.conv3d(
            image, kernel, torch.from_numpy(bias), conv.stride, dilation=conv.dilation, groups=conv.groups
        )
        found: Array = y.reshape(len(x), -1).numpy()
        return found

    def _draw(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(self.dtype)


def row(case: Case, device: Device, error: float) -> dict[str, object]:
    """Return a case's row in the CSV."""
    return {"gpu": device.name, **asdict(case), "error": f"{error:.1e}", "limit": limit_of(case.kernel, case.dtype)}
