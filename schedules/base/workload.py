"""Workload: one layer as a kernel sees it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tvm import tirx

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.pattern import BalancedPattern

WORKLOAD_ATTR = "tvm_balanced.workload"  # attribute of a PrimFunc with the fields of its Workload


@dataclass(frozen=True)
class Workload:
    """One dense layer as a kernel sees it: y (M, N) = activation(x (M, K) @ weight (N, K)^T + bias
    (N,) [+ residual (M, N)]).

    Parameters
    ----------
    kernel : str
        Name of the kernel that computes the layer.
    m : int or None
        Rows of x; None if they are known only at the call.
    n, k : int
        Rows and columns of the weight.
    nnz, block : int
        The pattern that the weight is stored in; equal for a dense weight.
    dtype : str
        Dtype of x, weight, bias and y.
    activation : str
        A name in `activations.ACTIVATIONS`.
    residual : bool
        Whether there is a residual.
    tile : int
        Rows of x in a tile if M is symbolic; 0 leaves it to the kernel.
    conv : Convolution or None
        For a convolution, how it reads its images: M are the pixels of the results of all images, and x and y are images.
    rounded : bool
        Whether a kernel that rounds rows of x is given rounded ones, which several layers share: their values, steps and zeros
        (`tir/rounded_rows.py`) in the place of x.
    """

    kernel: str
    m: int | None
    n: int
    k: int
    nnz: int
    block: int
    dtype: str = "float32"
    activation: str = "none"
    residual: bool = False
    tile: int = 0
    conv: Convolution | None = None
    rounded: bool = False

    @property
    def pattern(self) -> BalancedPattern:
        """The pattern that the weight is stored in."""
        return BalancedPattern(self.nnz, self.block)

    @property
    def flops(self) -> int:
        """Multiplications and additions of a call whose M is known. MetaSchedule reports rates by it; it cannot count vectors."""
        assert self.m is not None
        return 2 * self.n * self.k * self.m * self.nnz // self.block

    @property
    def title(self) -> str:
        """A readable name: "cpu_avx512 768x3072 M=8 2:16 gelu"."""
        words = [f"{self.kernel} {self.n}x{self.k} M={self.m}", *([] if self.nnz == self.block else [str(self.pattern)])]
        words += [] if self.conv is None else [self.conv.title]
        words += [*([] if self.dtype == "float32" else [self.dtype]), *([] if self.activation == "none" else [self.activation])]
        words += ["of rounded x"] if self.rounded else []
        return " ".join(words + (["+residual"] if self.residual else []))

    def attach(self, func: tirx.PrimFunc) -> tirx.PrimFunc:
        """Return `func` with this workload attached, so that a schedule can be chosen for it after lowering.

        If the workload has no residual, the second-to-last parameter (the residual) is dropped.
        """
        if not self.residual:
            *inputs, _, y = func.params
            func = tirx.PrimFunc([*inputs, y], func.body, func.ret_type, func.attrs)
        func = func.with_attr(WORKLOAD_ATTR, self.to_attr())
        # 8 is kOpaque. Otherwise FuseTIR would fuse into the function and drop the attribute that
        # marks it as ours.
        return func.with_attr("op_pattern", 8)

    @classmethod
    def of(cls, func: tirx.PrimFunc) -> "Workload | None":
        """Return the workload that `func` carries, None if it is not one of our kernels."""
        attr = func.attrs.get(WORKLOAD_ATTR) if func.attrs else None
        return None if attr is None else cls.from_attr(attr)

    def to_attr(self) -> dict[str, Any]:
        """Return this workload as plain data that TVM accepts as an attribute."""
        attr = {name: value for name, value in asdict(self).items() if name != "conv" and (name != "rounded" or value)}
        return attr if self.conv is None else attr | {"conv": self.conv.to_attr()}

    @classmethod
    def from_attr(cls, attr: Mapping[str, Any]) -> "Workload":
        """Return the workload that `to_attr` wrote, from TVM's form of it."""
        kinds = {field.name: field.type for field in fields(cls)}
        plain = {name: _plain(value, kinds[name]) for name, value in attr.items() if name != "conv"}
        return cls(**plain, conv=Convolution.from_attr(attr["conv"]) if "conv" in attr else None)


def _plain(value: Any, kind: Any) -> Any:
    """Convert a value of an attribute to Python's own type."""
    if value is None or isinstance(value, (str, bool)):
        return None if value is None else str(value) if isinstance(value, str) else bool(value)
    return bool(value) if kind in (bool, "bool") else int(value)
