"""Tiles of K of a convolution: the channels whose planes are read together, so that they stay in the first-level cache."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.script import tirx as T

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.weight_matrix import CHANNELS_FIRST, weight_matrix

# The most columns and channels of a tile, unless a block of the pattern needs more. The planes of so many channels fit a
# first-level cache of 32 KB; tiles of twice as many take up to 1.2x the time on Zen 3.
COLUMNS, CHANNELS = 144, 64


@dataclass(frozen=True)
class ChannelTiles:
    """K in tiles of all taps of `channels` channels; the last one may have fewer.

    Parameters
    ----------
    conv : Convolution
    channels : int
    """

    conv: Convolution
    channels: int

    @classmethod
    def of(cls, conv: Convolution, block: int = 1) -> "ChannelTiles":
        """Tile K so that no block of the pattern, of columns in the convolution's order, lies in two tiles."""
        most = max(1, min(CHANNELS, COLUMNS // conv.taps))
        if conv.order == CHANNELS_FIRST or conv.taps == 1:
            step = block // math.gcd(block, conv.taps)
        elif conv.depth % block == 0:
            step = block
        else:
            return cls(conv, conv.depth)  # blocks lie across taps
        return cls(conv, min(conv.depth, max(1, most // step) * step))

    @property
    def count(self) -> int:
        """Tiles of K."""
        return -(-self.conv.depth // self.channels)

    @property
    def columns(self) -> int:
        """Columns of a tile, the last one's perhaps fewer."""
        return self.channels * self.conv.taps

    def begin(self, tile: Any, first: Callable[[], None], later: Callable[[], None]) -> None:
        """Emit what begins the sums of the first tile of K, and of later ones. Call it inside TVMScript."""
        if self.count == 1:
            first()
            return
        with T.If(tile == 0):
            with T.Then():
                first()
            with T.Else():
                later()

    def places(self) -> Array:
        """Return (tile, place in it, channel by channel) of each column of the weight's matrix: (2, K)."""
        channel_by_channel = np.arange(self.conv.depth * self.conv.taps).reshape(1, self.conv.depth, self.conv.taps)
        return np.stack(np.divmod(weight_matrix(channel_by_channel, self.conv.order)[0], self.columns))
