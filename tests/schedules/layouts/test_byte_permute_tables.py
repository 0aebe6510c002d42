from itertools import combinations

import numpy as np
import pytest

from tvm_balanced.schedules.kernels.cuda_decode_mma import NNZ
from tvm_balanced.schedules.layouts.byte_permute_tables import entry, look_ups, nibbles, table


def permute(low, high, selector):
    """The same as `permute_bytes`, on Python's integers."""
    source = low.to_bytes(4, "little") + high.to_bytes(4, "little")
    return int.from_bytes(bytes(source[selector >> 4 * i & 7] for i in range(4)), "little")


def spread(columns, start):
    """Decode a block whose slots hold 1, 2, 3... and are stored from place `start` on; return its 16 columns."""
    nnz, selectors = len(columns), table(len(columns))
    stored = nibbles(np.array(columns), start)
    halves = [0xDEAD] * start + list(range(1, nnz + 1)) + [0xDEAD] * 2
    registers = {}
    for look in look_ups(nnz, start):
        bits = sum(int(stored[look.slot + i]) << 4 * i for i in range(look.slots))
        found, place = selectors[entry(look, bits)], (start + look.slot) // 2 * 2
        word = halves[place] | halves[place + 1] << 16
        for i in range(look.registers):
            selector = int(found[i // 2]) >> 16 * (i % 2) & 0xFFFF
            registers[look.first + i] = permute(word, registers.get(look.first + i, 0), selector)
    assert sorted(registers) == list(range(8)), "a register is never written"
    return [registers[column // 2] >> 16 * (column % 2) & 0xFFFF for column in range(16)]


@pytest.mark.parametrize("nnz", NNZ)
@pytest.mark.parametrize("row", [0, 1])
def test_every_way_to_choose_columns_is_spread(nnz, row):
    """For a block of the first row and of the next row, which begins inside a word if the number of slots is odd."""
    choices = list(combinations(range(16), nnz))
    for columns in choices[:: max(1, len(choices) // 500)]:
        expected = [columns.index(column) + 1 if column in columns else 0 for column in range(16)]
        assert spread(columns, row * nnz) == expected, columns


@pytest.mark.parametrize(("nnz", "entries"), [(1, 32), (2, 120), (3, 152), (4, 91), (6, 66), (8, 45)])
def test_tables_have_the_pairs_that_can_be(nnz, entries):
    assert table(nnz).shape == (entries, 4)


@pytest.mark.parametrize(
    ("nnz", "start", "slots"), [(2, 0, [2]), (8, 8, [2, 2, 2, 2]), (3, 0, [2, 1]), (3, 3, [1, 2]), (1, 1, [1])]
)
def test_pairs_share_a_word(nnz, start, slots):
    looks = look_ups(nnz, start)
    assert [look.slots for look in looks] == slots
    assert all(look.half == 0 for look in looks if look.slots == 2)


def test_many_slots_reach_few_registers():
    assert [sum(look.registers for look in look_ups(nnz, 0)) for nnz in (2, 4, 8)] == [8, 14, 20]
