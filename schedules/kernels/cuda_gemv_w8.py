"""As cuda_gemv, with the values stored in 8 bits and one scale per row: 1.5 bytes per nonzero instead of 2.5 or 4.5.

The layout is the one of cuda_gemv, except for

    values  (N / 32, S / 8, 32, 2)  uint32: a lane's next eight values, the first in the lowest byte, each plus 128
    scales  (N / 32, 32)            float32 of 8 significant bits

A byte permutation puts a stored byte u into the fraction of 2^15, which gives the float 2^15 + u. One multiply-add makes the
value of it, exactly, because neither product has more than 24 bits:

    value = (2^15 + u) * scale - (2^15 + 128) * scale

A conversion to float would have half the rate, and need a shift as well. The value is scaled before it is multiplied, not the
sum afterwards: sums of up to 127 times x would overflow where x is large.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.schedules.kernels.cuda_gemv import CudaGemv
from tvm_balanced.schedules.layouts.rounded_weight import round_to_short_scales
from tvm_balanced.schedules.layouts.row_panels import SLOTS_PER_WORD
from tvm_balanced.schedules.layouts.warp_panels import pack_warp_bias, pack_warps
from tvm_balanced.schedules.tir.cuda_intrinsics import permute_bytes

BIAS = 128  # of a stored byte
WHOLE, WHOLE_BITS = 2.0**15, 0x47000000  # a float whose second byte counts whole numbers, and its bits
TAKE = 0x7604  # selects the bytes of WHOLE_BITS; the byte of a word goes to the second place
PER_WORD = 4


class CudaGemvW8(CudaGemv):
    """Values rounded to 255 steps of each row's largest, arithmetic in fp32; used only if it is named or 8 bits are allowed."""

    name = "cuda_gemv_w8"
    parts = ("values", "positions", "scales")
    precision = "int8"
    tolerance = 5e-2
    stored, scaled = "int8", True

    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        numbers, scales = round_to_short_scales(weight.values.astype(np.float32))
        values, positions = pack_warps(replace(weight, values=numbers), "int8")
        return (values.view(np.uint8) + np.uint8(BIAS)).view(np.uint32), positions, pack_warp_bias(scales)

    def words(self, _dtype: str) -> tuple[int, str]:
        return SLOTS_PER_WORD // PER_WORD, "uint32"

    def value(self, values: tirx.Buffer, at: tuple[Any, Any, Any], scale: Any) -> Any:
        group, slot, lane = at
        word = values[group, slot // SLOTS_PER_WORD, lane, slot % SLOTS_PER_WORD // PER_WORD]
        selector = tirx.const(TAKE, "uint32") + T.cast(slot % PER_WORD * 16, "uint32")
        # with the sign of a scale, which is 0: ptxas keeps in a register what it does not know, and moves constants there
        sign = T.bitwise_and(T.reinterpret("uint32", scale), tirx.const(1 << 31, "uint32"))
        whole = T.bitwise_or(sign, tirx.const(WHOLE_BITS, "uint32"))
        number = T.reinterpret("float32", permute_bytes(word, whole, selector))
        return number * scale - T.float32(WHOLE + BIAS) * scale


CUDA_GEMV_W8 = CudaGemvW8()
