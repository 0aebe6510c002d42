"""As cpu_avx512, with the values stored in 8 bits and one scale per row: 1.5 bytes per nonzero instead of 4.5.

The layout is the one of cpu_avx512, except for

    values   (G, S / 4 + 1, 16) int32   four steps a word, the first in the lowest byte; then the rows' scales as float32 bits

A value is scaled before it is multiplied, not the sum afterwards: sums of up to 127 times x would overflow where x is large.
"""

from typing import Any

import numpy as np
from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.core.encoding import Array
from tvm_balanced.schedules.kernels.cpu_avx512 import CpuAvx512
from tvm_balanced.schedules.layouts.row_panels import LANES

LARGEST = 127


class CpuAvx512W8(CpuAvx512):
    """Values rounded to 255 steps of each row's largest, arithmetic in fp32; used only if it is named."""

    name = "cpu_avx512_w8"
    precision = "int8"
    tolerance = 5e-2
    word, steps_per_word, slot_bytes, long_blocks = "int32", 4, 1.5, False

    def extra_words(self, _steps: int) -> int:
        return 1

    def store(self, values: Array) -> Array:
        scales = np.abs(values).max(axis=1, keepdims=True) / np.float32(LARGEST)
        steps = np.rint(values / np.where(scales > 0, scales, 1)).astype(np.int8).view(np.uint8).astype(np.uint32)
        words = steps[:, ::4] | steps[:, 1::4] << np.uint32(8) | steps[:, 2::4] << np.uint32(16) | steps[:, 3::4] << np.uint32(24)
        return np.concatenate([words.view(np.int32), scales.view(np.int32)], axis=1)

    def value(self, values: tirx.Buffer, group: Any, word: Any, step: Any) -> Any:
        four, scales = (values[group, place, T.ramp(0, 1, LANES)] for place in (word, int(values.shape[1]) - 1))
        up = T.broadcast(T.cast((3 - step % 4) * 8, "int32"), LANES)
        signed = T.shift_right(T.shift_left(four, up), T.broadcast(T.int32(24), LANES))
        return T.cast(signed, f"float32x{LANES}") * T.reinterpret(f"float32x{LANES}", scales)


CPU_AVX512_W8 = CpuAvx512W8()
