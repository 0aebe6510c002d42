"""Pairs of bfloat16 in words of 32 bits: what vdpbf16ps multiplies, for CPUs with AVX-512 BF16.

A vector of pairs is int32x16, because TVM turns bfloat16 vectors into integers, which the signatures of the intrinsics refuse.
The instructions round to nearest even, take denormals as 0, and keep NaN and infinities. A function that calls these must import
PAIRS.
"""

from typing import Any

from tvm.script import tirx as T

LANES = 16
FEATURE = "avx512bf16"
_INTERLEAVED = ", ".join(f"i32 {lane}, i32 {lane + LANES}" for lane in range(LANES))
PAIRS = f"""
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)
declare <32 x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.512(<16 x float>, <16 x float>)
define linkonce_odr <16 x float> @tvm_balanced_dot_pairs(<16 x float> %sums, <16 x i32> %x, <16 x i32> %y)
    alwaysinline nounwind {{
  %a = bitcast <16 x i32> %x to <32 x bfloat>
  %b = bitcast <16 x i32> %y to <32 x bfloat>
  %r = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float> %sums, <32 x bfloat> %a, <32 x bfloat> %b)
  ret <16 x float> %r
}}
define linkonce_odr <16 x i32> @tvm_balanced_pairs_along(<16 x float> %first, <16 x float> %second) alwaysinline nounwind {{
  %r = call <32 x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.512(<16 x float> %second, <16 x float> %first)
  %w = bitcast <32 x bfloat> %r to <16 x i32>
  ret <16 x i32> %w
}}
define linkonce_odr <16 x i32> @tvm_balanced_pairs_across(<16 x float> %low, <16 x float> %high) alwaysinline nounwind {{
  %r = call <32 x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.512(<16 x float> %high, <16 x float> %low)
  %s = shufflevector <32 x bfloat> %r, <32 x bfloat> undef, <32 x i32> <{_INTERLEAVED}>
  %w = bitcast <32 x bfloat> %s to <16 x i32>
  ret <16 x i32> %w
}}
"""


def dot_pairs(sums: Any, x: Any, y: Any) -> Any:
    """Return sums (float32x16) plus the two products of each lane's pairs x and y (int32x16)."""
    return T.call_extern(f"float32x{LANES}", "tvm_balanced_dot_pairs", sums, x, y)


def pairs_along(first: Any, second: Any) -> Any:
    """Return 32 numbers that follow one another (two float32x16) as pairs of neighbours, int32x16."""
    return T.call_extern(f"int32x{LANES}", "tvm_balanced_pairs_along", first, second)


def pairs_across(low: Any, high: Any) -> Any:
    """Return pairs of a number of `low` and the one of `high` (float32x16) in the same lane, int32x16."""
    return T.call_extern(f"int32x{LANES}", "tvm_balanced_pairs_across", low, high)
