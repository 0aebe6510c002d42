"""Random inputs of kernels that are built for random layers, each result inside the bound that its arithmetic allows.

A layer draws its kernel, dtype, shape, pattern, activation, bias and residual. It is built once, and called with many x, whose
rows have magnitudes from 2^-12 to 2^12 (in float16 to 2^2). The bounds hold for every x, not for most:

    sums          a sum of n terms is off by at most n + 1 roundings to float32 of its terms' magnitudes
    rounded       8 bits: half a step of x for each column and half a scale for each weight; bfloat16: half of the last bit
    activations   their derivative times the error before them, and their own error
    half results  half of the last bit of the result
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from support import eight_bits, reference

from benchmarks.reliability import rows
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import DENSE_KERNELS, KERNELS
from tvm_balanced.schedules.tir.activations import ACTIVATIONS

BUILDS = 20  # of a batch, which is a row
INPUTS = 500  # of a build
SINGLE, DOUBLE_SLACK = 2.0**-24, 1e-12  # half of the last bit of float32; the reference's own rounding
HALF = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}  # half of the last bit of y
LEAST = {"float32": 1e-37, "float16": 2.0**-25, "bfloat16": 1e-37}  # of numbers that have lost bits because they are small
SCALES = {"float32": 12, "bfloat16": 12, "float16": 2}
WEIGHTS = {"cpu_avx512_w16": "bfloat16", "cpu_avx512_w8": "int8"}  # what a kernel rounds its weights to, x apart


@dataclass(frozen=True)
class Layer:
    """What is built."""

    kernel: str
    dtype: str
    n: int
    k: int
    m: int | None  # None: known only at the call
    nnz: int
    activation: str
    bias: bool
    residual: bool
    seed: int

    def __str__(self) -> str:
        return " ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))


def here() -> list[tuple[str, str]]:
    """Return each kernel with each dtype that this machine runs."""
    return [
        (name, dtype)
        for name, kernel in KERNELS.items()
        for dtype in kernel.dtypes
        if kernel.refuses(host_target(), 64, 64, dtype) is None
    ]


def drawn(batch: int) -> Iterator[Layer]:
    """Return the layers of a batch, always the same."""
    rng, kernels = np.random.default_rng([28, batch]), here()
    for place in range(BUILDS):
        kernel, dtype = kernels[(batch * BUILDS + place) % len(kernels)]
        yield Layer(
            kernel,
            dtype,
            n=int(rng.integers(1, 130)),
            k=int(rng.integers(32, 200)),
            m=None if rng.random() < 0.05 else int(rng.integers(1, 8)),
            nnz=int(rng.choice([1, 2, 3, 4, 6, 8, 12])),
            activation=str(rng.choice(sorted(ACTIVATIONS))),
            bias=bool(rng.random() < 0.5),
            residual=bool(rng.random() < 0.3),
            seed=batch * BUILDS + place,
        )


def activated(name: str, totals: Array) -> Array:
    """Return an activation in float64."""
    if name != "gelu":
        with np.errstate(over="ignore"):  # of exp, whose inverse is 0
            return np.asarray(reference.ACTIVATIONS[name](totals))
    return np.asarray(0.5 * totals * (1 + torch.erf(torch.from_numpy(totals / np.sqrt(2))).numpy()))


def allowed(layer: Layer, x: Array, weight: Array, bias: Array | None, residual: Array | None, totals: Array) -> Array:
    """Return how far each result may be off, (M, N) float64; all operands as the kernel gets them."""
    magnitude = reference.linear(*(None if a is None else np.abs(a) for a in (x, weight, bias, residual)))
    terms = np.count_nonzero(weight, axis=1) + 3  # bias and residual, and the product's rounding
    before = terms * SINGLE / (1 - terms * SINGLE) * magnitude
    if "totals" in KERNELS[layer.kernel].parts:  # x is rounded, too
        before += eight_bits.allowed_error(x, weight) * (1 + 8 * SINGLE) + 8 * SINGLE * magnitude
    elif WEIGHTS.get(layer.kernel) == "int8":
        _, scales = eight_bits.rounded_weight(weight)
        before += 0.501 * scales * (np.abs(x.astype(np.float64)) @ (weight != 0).T)
    elif WEIGHTS.get(layer.kernel) == "bfloat16":
        before += HALF["bfloat16"] * (1 + terms * SINGLE) * reference.linear(np.abs(x), np.abs(weight), None, None)
    after = reference.STEEPEST[layer.activation] * before + reference.FACTOR_ERROR[layer.activation] * np.abs(totals)
    return after * (1 + HALF[layer.dtype]) + LEAST[layer.dtype]


def tried(layer: Layer, inputs: int) -> tuple[int, int, float]:
    """Build a layer and call it with so many x: (results, those outside of their bound, the largest share of a bound)."""
    rng, pattern = np.random.default_rng([29, layer.seed]), BalancedPattern.parse(f"{layer.nnz}:16")
    if KERNELS[layer.kernel] in DENSE_KERNELS:
        weight = rng.standard_normal((layer.n, layer.k)).astype(np.float32)
    else:
        weight = reference.balanced(layer.n, layer.k, pattern, rng)
    weight = reference.rounded(weight, layer.dtype)
    bias = reference.rounded(rng.standard_normal(layer.n).astype(np.float32), layer.dtype) if layer.bias else None
    run = reference.compile_kernel(
        layer.kernel, weight, pattern, bias, layer.m, layer.activation, residual=layer.residual, dtype=layer.dtype
    )
    counts = rng.integers(1, 8, inputs) if layer.m is None else np.full(inputs, layer.m)
    ends = np.cumsum(counts)
    scale = np.exp2(rng.uniform(-SCALES[layer.dtype], SCALES[layer.dtype], (ends[-1], 1)))
    x = reference.rounded((rng.standard_normal((ends[-1], layer.k)) * scale).astype(np.float32), layer.dtype)
    given = [x]
    if layer.residual:
        given.append(reference.rounded((rng.standard_normal((ends[-1], layer.n)) * scale).astype(np.float32), layer.dtype))
    got = np.concatenate([run(*(a[end - count : end] for a in given)) for count, end in zip(counts, ends, strict=True)])
    residual = given[1] if layer.residual else None
    totals = reference.linear(x, weight, bias, residual)
    want, room = activated(layer.activation, totals), allowed(layer, x, weight, bias, residual, totals)
    share = (np.abs(got - want) - DOUBLE_SLACK * np.abs(want)) / (room + HALF[layer.dtype] * np.abs(want))
    return got.size, int(np.count_nonzero(~(share <= 1))), float(np.nanmax(share))


def run(label: str, builds: int, inputs: int = INPUTS) -> bool:
    """Go through batches until so many builds are in the rows of this label, a row a batch; return whether all were right."""
    done = {int(row["batch"]) for row in rows.read("inputs", label)}
    for batch in range(-(-builds // BUILDS)):
        if batch in done:
            continue
        began, results, outside, worst, wrong = time.process_time(), 0, 0, 0.0, ""
        for layer in drawn(batch):
            more, out, share = tried(layer, inputs)
            results, outside = results + more, outside + out
            worst, wrong = max(worst, share), wrong or (str(layer) if out else "")
        row = {"batch": batch, "builds": BUILDS, "inputs": BUILDS * inputs, "results": results, "outside": outside}
        row |= {"largest_share": f"{worst:.3f}", "cpu_seconds": f"{time.process_time() - began:.1f}", "first_outside": wrong}
        rows.write("inputs", label, row)
        print(row, flush=True)
    return not any(int(row["outside"]) for row in rows.read("inputs", label))
