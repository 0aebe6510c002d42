"""Dot products of four bytes: for 16 lanes, or 8, a 32-bit sum plus four unsigned bytes times four signed ones.

    sums[16] += x[16][0..3] * values[16][0..3]       x 0 to 255, values -127 to 127

It is a function in LLVM IR that a schedule imports, so that one kernel serves every CPU. `moved_dot` is the same for 8 lanes of a
CPU with AVX2, of x that is moved to -127 to 127 if vpmaddubsw is to take it.

    AVX-512 VNNI, AVX-VNNI   vpdpbusd
    AVX2                     vpmaddwd of the even and of the odd bytes, widened to 16 bits. The sums of vpmaddubsw saturate, for
                             2 * 254 * 127 does not fit 16 bits. 2 * 127 * 127 does, so `moved_dot` takes it; here it would gain
                             nothing, because x, which is widened, serves several row panels
    ARM with i8mm            usdot
    ARM with dotprod         sdot, whose bytes are both signed: of x - 128, and of 64 twice, which adds what was taken
    others                   32-bit multiplications, which LLVM turns into what the CPU has
"""

from typing import Any

import tvm
from tvm.script import tirx as T
from tvm.target import codegen

from tvm_balanced.schedules.base.target_info import is_aarch64
from tvm_balanced.schedules.layouts.row_panels import LANES

BYTES = 4 * LANES  # of a vector of x or of values
DOT = "tvm_balanced_dot_i8"
MOVED_DOT, MOVED_BY = "tvm_balanced_moved_dot_i8", "tvm_balanced_moved_by_i8"


def _head(lanes: int) -> str:
    return (
        f"define linkonce_odr <{lanes} x i32> @{DOT}_{lanes}(<{lanes} x i32> %sums, <{4 * lanes} x i8> %x, <{4 * lanes} x i8> "
        "%values) alwaysinline nounwind willreturn memory(none) {"
    )


_VNNI = f"""
declare <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32>, <64 x i8>, <64 x i8>)
{_head(16)}
  %r = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %sums, <64 x i8> %x, <64 x i8> %values)
  ret <16 x i32> %r
}}
"""


def _lanes(first: int, count: int) -> str:
    return ", ".join(f"i32 {lane}" for lane in range(first, first + count))


def _in_parts(whole: int, lanes: int, declaration: str, body: str) -> str:
    """Return the function of `whole` lanes as several of `lanes`: `body` has H in the names of one part."""
    lines, count = [declaration, _head(whole)], whole // lanes
    kinds = f"<{whole} x i32>", f"<{4 * whole} x i8>"
    for part in range(count):
        order, bytes_ = _lanes(lanes * part, lanes), _lanes(4 * lanes * part, 4 * lanes)
        taken = (
            f"  %sums{part} = shufflevector {kinds[0]} %sums, {kinds[0]} undef, <{lanes} x i32> <{order}>\n"
            f"  %x{part} = shufflevector {kinds[1]} %x, {kinds[1]} undef, <{4 * lanes} x i32> <{bytes_}>\n"
            f"  %values{part} = shufflevector {kinds[1]} %values, {kinds[1]} undef, <{4 * lanes} x i32> <{bytes_}>\n"
        )
        lines.append(taken + body.replace("H", str(part)))
    names = [f"%r{part}" for part in range(count)]
    while len(names) > 1:  # two at a time, into vectors of twice the lanes
        lanes *= 2
        joined = [f"%j{lanes}_{at}" for at in range(len(names) // 2)]
        for name, first, second in zip(joined, names[::2], names[1::2], strict=True):
            kind = f"<{lanes // 2} x i32>"
            lines.append(f"  {name} = shufflevector {kind} {first}, {kind} {second}, <{lanes} x i32> <{_lanes(0, lanes)}>\n")
        names = joined
    return "\n".join([*lines, f"  ret <{whole} x i32> {names[0]}\n}}\n"])


_AVX_VNNI = (
    8,
    "declare <8 x i32> @llvm.x86.avx512.vpdpbusd.256(<8 x i32>, <32 x i8>, <32 x i8>)",
    "  %rH = call <8 x i32> @llvm.x86.avx512.vpdpbusd.256(<8 x i32> %sumsH, <32 x i8> %xH, <32 x i8> %valuesH)\n",
)
_AVX2 = (
    8,
    "declare <8 x i32> @llvm.x86.avx2.pmadd.wd(<16 x i16>, <16 x i16>)",
    """  %xwH = bitcast <32 x i8> %xH to <16 x i16>
  %vwH = bitcast <32 x i8> %valuesH to <16 x i16>
  %xeH = and <16 x i16> %xwH, splat (i16 255)
  %xoH = lshr <16 x i16> %xwH, splat (i16 8)
  %vsH = shl <16 x i16> %vwH, splat (i16 8)
  %veH = ashr <16 x i16> %vsH, splat (i16 8)
  %voH = ashr <16 x i16> %vwH, splat (i16 8)
  %peH = call <8 x i32> @llvm.x86.avx2.pmadd.wd(<16 x i16> %xeH, <16 x i16> %veH)
  %poH = call <8 x i32> @llvm.x86.avx2.pmadd.wd(<16 x i16> %xoH, <16 x i16> %voH)
  %seH = add <8 x i32> %sumsH, %peH
  %rH = add <8 x i32> %seH, %poH
""",
)


_USDOT = (
    4,
    "declare <4 x i32> @llvm.aarch64.neon.usdot.v4i32.v16i8(<4 x i32>, <16 x i8>, <16 x i8>)",
    "  %rH = call <4 x i32> @llvm.aarch64.neon.usdot.v4i32.v16i8(<4 x i32> %sumsH, <16 x i8> %xH, <16 x i8> %valuesH)\n",
)
_SDOT = (
    4,
    "declare <4 x i32> @llvm.aarch64.neon.sdot.v4i32.v16i8(<4 x i32>, <16 x i8>, <16 x i8>)",
    """  %xsH = xor <16 x i8> %xH, splat (i8 -128)
  %sxH = call <4 x i32> @llvm.aarch64.neon.sdot.v4i32.v16i8(<4 x i32> %sumsH, <16 x i8> %xsH, <16 x i8> %valuesH)
  %syH = call <4 x i32> @llvm.aarch64.neon.sdot.v4i32.v16i8(<4 x i32> %sxH, <16 x i8> splat (i8 64), <16 x i8> %valuesH)
  %rH = call <4 x i32> @llvm.aarch64.neon.sdot.v4i32.v16i8(<4 x i32> %syH, <16 x i8> splat (i8 64), <16 x i8> %valuesH)
""",
)


def _plain(whole: int) -> str:
    """Return the function in multiplications of 32 bits."""
    bytes_, words = f"<{4 * whole} x i8>", f"<{4 * whole} x i32>"
    lines = [_head(whole), f"  %wx = zext {bytes_} %x to {words}", f"  %wv = sext {bytes_} %values to {words}"]
    lines.append(f"  %p = mul {words} %wx, %wv")
    total = "%sums"
    for byte in range(4):
        order = ", ".join(f"i32 {4 * lane + byte}" for lane in range(whole))
        lines.append(f"  %p{byte} = shufflevector {words} %p, {words} undef, <{whole} x i32> <{order}>")
        lines.append(f"  %t{byte} = add <{whole} x i32> {total}, %p{byte}")
        total = f"%t{byte}"
    return "\n".join([*lines, f"  ret <{whole} x i32> {total}\n}}\n"])


def has_dot_products(target: tvm.target.Target) -> bool:
    """Whether a CPU multiplies and adds four bytes in one instruction."""
    return any(codegen.llvm_cpu_has_features(feature, target) for feature in ("avx512vnni", "avxvnni"))


# Of signed x the sums of vpmaddubsw fit 16 bits: it multiplies |values|, which are shared by rows of x, by x with their signs.
_MOVED_AVX2 = f"""
declare <32 x i8> @llvm.x86.avx2.psign.b(<32 x i8>, <32 x i8>)
declare <32 x i8> @llvm.abs.v32i8(<32 x i8>, i1)
declare <16 x i16> @llvm.x86.avx2.pmadd.ub.sw(<32 x i8>, <32 x i8>)
declare <8 x i32> @llvm.x86.avx2.pmadd.wd(<16 x i16>, <16 x i16>)
define linkonce_odr <8 x i32> @{MOVED_DOT}(<8 x i32> %sums, <32 x i8> %x, <32 x i8> %values) alwaysinline nounwind willreturn
    memory(none) {{
  %size = call <32 x i8> @llvm.abs.v32i8(<32 x i8> %values, i1 false)
  %signed = call <32 x i8> @llvm.x86.avx2.psign.b(<32 x i8> %x, <32 x i8> %values)
  %pairs = call <16 x i16> @llvm.x86.avx2.pmadd.ub.sw(<32 x i8> %size, <32 x i8> %signed)
  %four = call <8 x i32> @llvm.x86.avx2.pmadd.wd(<16 x i16> %pairs, <16 x i16> splat (i16 1))
  %r = add <8 x i32> %sums, %four
  ret <8 x i32> %r
}}
"""


def moved_dot_products(target: tvm.target.Target) -> str:
    """Return the functions of `moved_dot` and `moved_by` for a CPU with AVX2, in LLVM IR."""
    moved = not has_dot_products(target)
    functions = _MOVED_AVX2 if moved else _in_parts(8, *_AVX_VNNI).replace(f"@{DOT}_8(", f"@{MOVED_DOT}(")
    return f"{functions}\ndefine linkonce_odr i32 @{MOVED_BY}() alwaysinline {{\n  ret i32 {127 if moved else 0}\n}}\n"


def moved_dot(sums: Any, x: Any, values: Any) -> Any:
    """Return 8 sums (int32) plus four products each: x (32 uint8) less `moved_by`, values (32 int8)."""
    return T.call_pure_extern("int32x8", MOVED_DOT, sums, x, values)


def moved_by() -> Any:
    """Return what `moved_dot` wants x moved by on the CPU: bytes of 0 to 254 less that are what its instructions take."""
    return T.call_pure_extern("int32", MOVED_BY)


def dot_products(target: tvm.target.Target, whole: int = LANES) -> str:
    """Return the function of `dot` for a CPU, in LLVM IR, of 16 lanes or of 8."""
    if codegen.llvm_cpu_has_features("avx512vnni", target):
        return _VNNI if whole == LANES else _in_parts(whole, *_AVX_VNNI)
    if codegen.llvm_cpu_has_features("avxvnni", target):
        return _in_parts(whole, *_AVX_VNNI)
    if is_aarch64(target) and codegen.llvm_cpu_has_features("dotprod", target):
        return _in_parts(whole, *(_USDOT if codegen.llvm_cpu_has_features("i8mm", target) else _SDOT))
    return _in_parts(whole, *_AVX2) if codegen.llvm_cpu_has_features("avx2", target) else _plain(whole)


def dot(sums: Any, x: Any, values: Any, whole: int = LANES) -> Any:
    """Return sums (int32, one a lane) plus four products each: x (4 a lane, uint8), values (4 a lane, int8). The schedule imports
    `dot_products`.
    """
    return T.call_pure_extern(f"int32x{whole}", f"{DOT}_{whole}", sums, x, values)


def four_columns(x: Any, row: Any, column: Any) -> Any:
    """Return four columns of a row of x (M, K) uint8, once for each lane."""
    word = T.reinterpret("int32", x[row, T.ramp(column, 1, 4)])
    return T.reinterpret(f"uint8x{BYTES}", T.broadcast(word, LANES))
