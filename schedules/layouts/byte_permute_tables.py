"""Spread the nonzeros of a block over registers by look-ups: a table says which bytes of a word of values go where.

A block of 16 columns is eight registers of two columns. Its nonzeros are looked up in pairs of two
that share a 32-bit word: an entry of the table is eight selectors of 16 bits, and
`permute_bytes(word, register, selector)` puts the values of the pair that belong to a register into
it and keeps its other bytes. For each of up to eight registers this takes one instruction, and half
an instruction to extract the selector. Comparing and selecting took four.

    selector of a register   0x7654 keeps both columns, 0x10 and 0x32 in a byte of it take the first and the second value

Nonzeros are stored by ascending column, so the i-th of n lies in columns i to 16 - n + i: pairs of
many slots reach few registers. A pair is identified by its rank among all pairs of columns, counted
from the first that it can have. If n is odd, one slot has a word of its own or shares it with the
next row's; it is identified by its column.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tvm_balanced.core.encoding import Array
from tvm_balanced.schedules.layouts.warp_panels import BLOCK

WORDS = 4  # words of an entry: eight selectors
KEEP = (0x54, 0x76)  # the byte of a selector that keeps the lower or the upper column of a register
TAKE = (0x10, 0x32)  # and the byte that takes the lower or the upper half of the word of values


@dataclass(frozen=True)
class LookUp:
    """One or two slots of a block that are looked up together.

    Parameters
    ----------
    slot : int
        The first of them.
    slots : int
        One or two.
    half : int
        The half of a word of values that holds the first.
    nnz : int
        Slots of the block.
    """

    slot: int
    slots: int
    half: int
    nnz: int

    @property
    def first(self) -> int:
        """Return the register of the first column that the slots can have."""
        return self.slot // 2

    @property
    def columns(self) -> int:
        """Return how many columns the slots can have, counted from the lower column of that register."""
        return BLOCK - self.nnz + self.slot + self.slots - 2 * self.first

    @property
    def registers(self) -> int:
        """Return how many registers these columns are."""
        return -(-self.columns // 2)


def look_ups(nnz: int, start: int) -> tuple[LookUp, ...]:
    """Return the look-ups of a block whose first slot is the `start`-th of those that are stored
    one after another.
    """
    found, slot = [], 0
    while slot < nnz:
        half = (start + slot) % 2
        slots = 1 if half or slot + 1 == nnz else 2
        found.append(LookUp(slot, slots, half, nnz))
        slot += slots
    return tuple(found)


def _pairs(nnz: int) -> int:
    """Return the number of pairs of columns; their entries are the first in a table."""
    both = (*look_ups(nnz, 0), *look_ups(nnz, nnz))
    most = max((look.columns for look in both if look.slots == 2), default=0)
    return most * (most - 1) // 2


@cache
def table(nnz: int) -> Array:
    """Return the table for blocks of `nnz` slots, (entries, 4) uint32: pairs by rank, then columns
    if some slots stand alone.
    """
    entries = [_selectors({a: 0, b: 1}) for b in range(BLOCK) for a in range(b)][: _pairs(nnz)]
    if nnz % 2:
        entries += [_selectors({column: half}) for half in (0, 1) for column in range(BLOCK)]
    return np.array(entries, np.uint32)


def _selectors(taken: dict[int, int]) -> list[int]:
    """Return the words of an entry: for each column that takes a value, which half of the word of values it takes."""
    codes = [TAKE[taken[column]] if column in taken else KEEP[column % 2] for column in range(BLOCK)]
    return [sum(code << 8 * i for i, code in enumerate(codes[4 * word : 4 * word + 4])) for word in range(WORDS)]


def nibbles(columns: Array, start: int) -> Array:
    """Return the stored bits of ascending columns (..., nnz) of blocks, four bits per slot; `start`
    as for `look_ups`.
    """
    stored = np.empty(columns.shape, np.uint32)
    for look in look_ups(columns.shape[-1], start):
        first, *second = (columns[..., look.slot + i].astype(np.uint32) - 2 * look.first for i in range(look.slots))
        rank = second[0] * (second[0] - 1) // 2 + first if second else first
        for i in range(look.slots):
            stored[..., look.slot + i] = rank >> np.uint32(4 * i) & 15
    return stored


def entry(look: LookUp, stored: Any) -> Any:
    """Return the table entry of a look-up whose stored bits, four per slot, are `stored`."""
    return stored if look.slots == 2 else stored + _pairs(look.nnz) + BLOCK * look.half
