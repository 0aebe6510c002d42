"""As cpu_avx512, with the values stored in bfloat16: 2.5 bytes per nonzero instead of 4.5, for
layers bound by memory.

The layout is the one of cpu_avx512, except for

    values   (G, S / 2, 16) int32   two steps a word, the even one in the lower half; a float32's upper half is a bfloat16
"""

from typing import Any

import ml_dtypes
import numpy as np
from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.core.encoding import Array
from tvm_balanced.schedules.kernels.cpu_avx512 import CpuAvx512
from tvm_balanced.schedules.layouts.row_panels import LANES


class CpuAvx512W16(CpuAvx512):
    """Values rounded to bfloat16, arithmetic in fp32; used only if it is named, because it rounds the weights."""

    name = "cpu_avx512_w16"
    precision = "bfloat16"
    tolerance = 1e-2
    word, steps_per_word, slot_bytes, long_blocks = "int32", 2, 2.5, False

    def store(self, values: Array) -> Array:
        halves = values.astype(ml_dtypes.bfloat16).view(np.uint16).astype(np.uint32)
        return (halves[:, ::2] | halves[:, 1::2] << np.uint32(16)).view(np.int32)

    def value(self, values: tirx.Buffer, group: Any, word: Any, step: Any) -> Any:
        # After unrolling, the step is a constant and one shift remains: an even step is shifted up,
        # and for an odd one the lower half is cleared.
        shift = T.broadcast(T.cast((1 - step % 2) * 16, "int32"), LANES)
        two = values[group, word, T.ramp(0, 1, LANES)]
        upper = T.bitwise_and(T.shift_left(two, shift), T.broadcast(T.int32(-65536), LANES))
        return T.reinterpret(f"float32x{LANES}", upper)


CPU_AVX512_W16 = CpuAvx512W16()
