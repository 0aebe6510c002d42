"""The geometry of a convolution: how its result reads the image."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from tvm_balanced.core.weight_matrix import CHANNELS_FIRST, TAPS_FIRST

Axes = tuple[int, int, int]  # one number for depth, height and width


@dataclass(frozen=True)
class Convolution:
    """A convolution of images (batch, channels, depth, height, width); one over fewer dimensions has sizes of 1 before.

    Parameters
    ----------
    channels : int
        Of the image.
    size : (int, int, int)
        Depth, height and width of the image.
    kernel, stride, dilation : (int, int, int)
    before, after : (int, int, int)
        Zeros around the image, at the start and at the end of each axis.
    groups : int
        Each group of results reads its own group of channels.
    spread : (int, int, int)
        Distance of the image's elements; above 1 there are zeros between them, as a transposed convolution reads them.
    order : str
        TAPS_FIRST or CHANNELS_FIRST: how the columns K of the weight's matrix run over taps and channels.
    """

    channels: int
    size: Axes
    kernel: Axes
    stride: Axes = (1, 1, 1)
    dilation: Axes = (1, 1, 1)
    before: Axes = (0, 0, 0)
    after: Axes = (0, 0, 0)
    groups: int = 1
    spread: Axes = (1, 1, 1)
    order: str = TAPS_FIRST

    @property
    def outputs(self) -> Axes:
        """Depth, height and width of the result."""
        axes = zip(self.spread_size, self.kernel, self.stride, self.dilation, self.before, self.after, strict=True)
        d, h, w = ((size + low + high - dilation * (taps - 1) - 1) // s + 1 for size, taps, s, dilation, low, high in axes)
        return d, h, w

    @property
    def spread_size(self) -> Axes:
        """Depth, height and width of the image with the zeros between its elements."""
        d, h, w = ((size - 1) * spread + 1 for size, spread in zip(self.size, self.spread, strict=True))
        return d, h, w

    @property
    def pixels(self) -> int:
        """Pixels of the result for one image."""
        return math.prod(self.outputs)

    @property
    def elements(self) -> int:
        """Of one image that it reads, all channels."""
        return self.channels * math.prod(self.size)

    @property
    def taps(self) -> int:
        """Elements of the kernel for one channel."""
        return math.prod(self.kernel)

    @property
    def depth(self) -> int:
        """Channels that one result reads."""
        return self.channels // self.groups

    @property
    def macs(self) -> int:
        """Multiply-adds for one image and one of the results' channels; not those with the zeros of a spread image."""
        return (self.pixels if self.spread == (1, 1, 1) else math.prod(self.size)) * self.taps * self.depth

    @property
    def is_pointwise(self) -> bool:
        """Whether each pixel of the result reads the same pixel of the image and no other."""
        same = (1, 1, 1)
        return self.taps == 1 and self.stride == self.spread == same and self.before == self.after == (0, 0, 0)

    @property
    def title(self) -> str:
        """A readable name: "64x56x56 3x3 /2 groups 4": the image, the kernel, its stride, and groups if there are several."""
        rank = max((3 - axis for axis in range(3) if self.size[axis] > 1 or self.kernel[axis] > 1), default=1)
        image, kernel, stride = ("x".join(map(str, part[3 - rank :])) for part in (self.size, self.kernel, self.stride))
        words = [f"{self.channels}x{image}", kernel, *([f"/{stride}"] if max(self.stride) > 1 else [])]
        return " ".join(words + ([f"groups {self.groups}"] if self.groups > 1 else []))

    def flattened(self) -> "Convolution":
        """Return a pointwise convolution over one axis of all pixels; others as they are."""
        return replace(self, size=(1, 1, math.prod(self.size)), dilation=(1, 1, 1)) if self.is_pointwise else self

    def to_attr(self) -> dict[str, Any]:
        """Return this as plain data that TVM takes as an attribute."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_attr(cls, attr: Mapping[str, Any]) -> "Convolution":
        """Return what `to_attr` wrote, from TVM's form of it or JSON's; raises KeyError or TypeError if it is something else."""
        plain: dict[str, Any] = {}
        for field in fields(cls):
            value = attr[field.name]
            if field.name == "order":
                plain[field.name] = str(value)
            else:
                plain[field.name] = int(value) if field.name in ("channels", "groups") else tuple(int(part) for part in value)
        made = cls(**plain)
        if made.order not in (TAPS_FIRST, CHANNELS_FIRST):
            raise TypeError(f"order is {made.order}")
        return made
