"""As cpu_avx512, with the values in 4 bits and a scale for each group of them: a byte per nonzero instead of 4.5.

For layers that wait for memory. A group are GROUP slots of a row as they follow each other. Its values are whole multiples, -7 to
7, of its scale, a bfloat16; a nonzero never becomes 0, so that it passes infinities on. Of 4:16, a weight takes 2.06 bits: 4 of a
value and 4 of an index for each fourth, and the scales.

The layout is the one of cpu_avx512, except for

    values   (G, S / 8 + ceil(S / GROUP / 2), 16) int32

which are eight steps a word, the first in the lowest bits, and then the scales of two groups a word, the first in the lower half.
"""

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.schedules.kernels.cpu_avx512 import CpuAvx512
from tvm_balanced.schedules.layouts.row_panels import LANES

LARGEST = 7
STEPS = 8  # of a word
GROUP = 64  # slots; 8 words
SHRUNK = tuple(1 - part / 32 for part in range(9))  # of the scale that spares the largest value: what clips it may lose less


class CpuAvx512W4(CpuAvx512):
    """Values rounded to 4 bits with a scale for each group, arithmetic in fp32; where a precision allows it, or it is named."""

    name = "cpu_avx512_w4"
    precision = "int4"
    tolerance = 0.3
    word, steps_per_word, slot_bytes, long_blocks = "int32", STEPS, 1 + 2 / GROUP, False

    def extra_words(self, steps: int) -> int:
        return -(-steps // (2 * GROUP))

    def store(self, values: Array) -> Array:
        count, steps, lanes = values.shape
        by_group = _by_group(values, 2 * self.extra_words(steps))
        scales = _scales(by_group)
        steps_of = _rounded(by_group, scales).reshape(count, -1, lanes)[:, :steps].view(np.uint8).astype(np.uint32) & 15
        words = sum(steps_of[:, place::STEPS] << np.uint32(4 * place) for place in range(STEPS))
        halves = scales.view(np.uint32)[:, :, 0] >> np.uint32(16)
        return np.concatenate([words, halves[:, ::2] | halves[:, 1::2] << np.uint32(16)], axis=1).view(np.int32)

    def value(self, values: tirx.Buffer, group: Any, word: Any, step: Any) -> Any:
        # S / 8 words of values have a sixteenth as many of scales behind them
        first = int(values.shape[1]) * 16 // 17
        place = word // (GROUP // STEPS)
        eight, scales = (values[group, at, T.ramp(0, 1, LANES)] for at in (word, first + place // 2))
        up = T.broadcast(T.cast((STEPS - 1 - step % STEPS) * 4, "int32"), LANES)
        signed = T.shift_right(T.shift_left(eight, up), T.broadcast(T.int32(28), LANES))
        upper = T.shift_left(scales, T.broadcast(T.cast((1 - place % 2) * 16, "int32"), LANES))
        scale = T.reinterpret(f"float32x{LANES}", T.bitwise_and(upper, T.broadcast(T.int32(-65536), LANES)))
        return T.cast(signed, f"float32x{LANES}") * scale


def stored_values(weight: EncodedWeight) -> EncodedWeight:
    """Return a weight as the kernel computes with it: values in float32, rounded."""
    slots = weight.values.reshape(1, len(weight.values), -1).swapaxes(1, 2)  # as the steps of one panel of all rows
    by_group = _by_group(slots, -(-slots.shape[1] // GROUP))
    scales = _scales(by_group)
    stored = (_rounded(by_group, scales) * scales).reshape(1, -1, slots.shape[2])[0, : slots.shape[1]]
    return replace(weight, values=np.ascontiguousarray(stored.T).reshape(weight.values.shape))


def _by_group(values: Array, groups: int) -> Array:
    """Return values (panels, steps, lanes) as float32 (panels, groups, GROUP, lanes), with zeros behind the last step."""
    count, steps, lanes = values.shape
    whole = np.zeros((count, groups * GROUP, lanes), np.float32)
    whole[:, :steps] = values
    return whole.reshape(count, groups, GROUP, lanes)


def _scales(values: Array) -> Array:
    """Return the scales of groups of values (panels, groups, GROUP, 16), of a few those that lose least: (panels, groups, 1, 16)
    float32, each of 8 significant bits.
    """
    largest = np.abs(values).max(axis=2, keepdims=True)
    best, lost = np.zeros_like(largest), np.full_like(largest, np.inf)
    for part in SHRUNK:
        scales = (largest * np.float32(part / LARGEST)).astype(ml_dtypes.bfloat16).astype(np.float32)
        off = ((_rounded(values, scales) * scales - values) ** 2).sum(axis=2, keepdims=True)
        best, lost = np.where(off < lost, scales, best), np.minimum(off, lost)
    return best


def _rounded(values: Array, scales: Array) -> Array:
    """Return values as whole multiples of their scales, -7 to 7, int8."""
    multiples = np.rint(values / np.where(scales > 0, scales, 1)).clip(-LARGEST, LARGEST)
    rounded: Array = np.where((multiples == 0) & (values != 0), np.sign(values), multiples).astype(np.int8)
    return rounded


CPU_AVX512_W4 = CpuAvx512W4()
