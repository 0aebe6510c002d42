"""What is done with one dense layer: the one record from the verdict to the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.detection import Detection
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import EVERY_M, RowRange
from tvm_balanced.core.weight_map import WeightMap


@dataclass(frozen=True)
class DenseLayer:
    """A dense layer or a convolution of a model: y (M, N) = x (M, K) @ weight (N, K)^T, and the zeros of its weight.

    `m` is None if the rows are known only at the call; they are then in the range `rows`. `addresses` are those of the constants
    that the weight is made of: layers with equal ones share it. Of a convolution, `conv` says what x is for each pixel of the
    result, and M are the pixels of all images. `weight_map` is for people to look at. Of an expert, `experts` are how many share
    the rows of x among them: each computes all of them. `in_loop` says that x is the state of a recurrence: it is computed in
    every step.
    """

    name: str
    m: int | None
    n: int
    k: int
    dtype: str
    found: Detection
    rows: RowRange = EVERY_M
    addresses: tuple[int, ...] = field(default=(), compare=False)
    conv: Convolution | None = None
    weight_map: WeightMap | None = field(default=None, compare=False)
    experts: int = field(default=1, compare=False)
    in_loop: bool = False


@dataclass(frozen=True)
class Verdict:
    """Why a kernel computes a layer.

    Parameters
    ----------
    reason : str
        One sentence.
    source : str
        "measured" (modelled, corrected by a machine profile), "modelled", "forced", or "rule" if there was nothing to weigh.
    speedup : float or None
        Over the dense kernel, the smallest over the rows, if it was modelled.
    """

    reason: str
    source: str
    speedup: float | None = None


@dataclass(frozen=True)
class Bucket:
    """A range of M, and what computes a layer for it.

    Parameters
    ----------
    kernel : str or None
        None leaves the layer to TVM's own lowering.
    pattern : BalancedPattern or None
        What the weight is stored in; None for a dense kernel.
    rows : RowRange
        Every M, if M is known.
    verdict : Verdict or None
        None in what is read back from the IR, which does not carry it.
    """

    kernel: str | None
    pattern: BalancedPattern | None = None
    rows: RowRange = EVERY_M
    verdict: Verdict | None = None

    @property
    def sparse(self) -> bool:
        """Whether the layer's zeros are skipped."""
        return self.pattern is not None


@dataclass(frozen=True)
class LayerPlan:
    """A dense layer of a model and its buckets, in ascending order of M; one bucket if M is known.

    `calls` is how often the entry point computes the layer with this M. `example_m` is M at the sizes of the examples, and `macs`
    how many multiply-adds the model asks of all these calls then, on the whole weight, zeros included.
    """

    layer: DenseLayer
    buckets: tuple[Bucket, ...]
    calls: int = 1
    entry_point: str = "main"
    example_m: int = 1
    macs: int = 0

    @property
    def example(self) -> Bucket:
        """The bucket of the examples."""
        return next((bucket for bucket in self.buckets if self.example_m in bucket.rows), self.buckets[0])


def buckets_to_attr(buckets: Sequence[Bucket]) -> list[dict[str, Any]]:
    """Return buckets as plain data that TVM takes as an attribute; verdicts are left out."""
    return [
        {
            "kernel": bucket.kernel or "",
            "nnz": bucket.pattern.nnz if bucket.pattern else 0,
            "block": bucket.pattern.block if bucket.pattern else 0,
            "first": bucket.rows.first,
            "last": bucket.rows.last or 0,
        }
        for bucket in buckets
    ]


def buckets_from_attr(attr: Sequence[Mapping[str, Any]]) -> tuple[Bucket, ...]:
    """Return the buckets that `buckets_to_attr` wrote."""
    return tuple(
        Bucket(
            str(part["kernel"]) or None,
            BalancedPattern(int(part["nnz"]), int(part["block"])) if int(part["nnz"]) else None,
            RowRange(int(part["first"]), int(part["last"]) or None),
        )
        for part in attr
    )
