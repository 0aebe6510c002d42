"""AVX-512 kernels on a CPU without AVX-512: the few instructions that they name, written in plain LLVM IR.

Everything else in a kernel is vectors of a width that LLVM splits by itself, so what runs is the kernel's own TensorIR.
"""

import pytest
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.schedules.kernels import cpu_avx512_bf16


def _permute(name, count, element, index, sources=1):
    """LLVM IR that selects element index % (count * sources) for each of `count` lanes."""
    given = f"<{count} x {element}> %a, <{count} x {index}> %i" + (f", <{count} x {element}> %b" if sources == 2 else "")
    whole, lines = count * sources, []
    if sources == 2:
        order = ", ".join(f"i32 {lane}" for lane in range(whole))
        lines.append(f"  %s = shufflevector <{count} x {element}> %a, <{count} x {element}> %b, <{whole} x i32> <{order}>")
    source = f"<{whole} x {element}> {'%s' if sources == 2 else '%a'}"
    for lane in range(count):
        before = f"%r{lane - 1}" if lane else "zeroinitializer"
        lines += [
            f"  %i{lane} = extractelement <{count} x {index}> %i, i32 {lane}",
            f"  %m{lane} = and {index} %i{lane}, {whole - 1}",
            f"  %e{lane} = extractelement {source}, {index} %m{lane}",
            f"  %r{lane} = insertelement <{count} x {element}> {before}, {element} %e{lane}, i32 {lane}",
        ]
    body = "\n".join([*lines, f"  ret <{count} x {element}> %r{count - 1}"])
    return f"define linkonce_odr <{count} x {element}> @{name}({given}) alwaysinline nounwind {{\n{body}\n}}\n"


def _dot(name):
    """LLVM IR of vpdpbusd: unsigned bytes times signed ones, four products added to each sum."""
    lines = [
        "  %wa = zext <64 x i8> %a to <64 x i32>",
        "  %wb = sext <64 x i8> %b to <64 x i32>",
        "  %p = mul <64 x i32> %wa, %wb",
    ]
    total = "%sums"
    for part in range(4):
        order = ", ".join(f"i32 {4 * lane + part}" for lane in range(16))
        lines += [
            f"  %p{part} = shufflevector <64 x i32> %p, <64 x i32> undef, <16 x i32> <{order}>",
            f"  %t{part} = add <16 x i32> {total}, %p{part}",
        ]
        total = f"%t{part}"
    body = "\n".join([*lines, f"  ret <16 x i32> {total}"])
    given = "<16 x i32> %sums, <64 x i8> %a, <64 x i8> %b"
    return f"define linkonce_odr <16 x i32> @{name}({given}) alwaysinline nounwind {{\n{body}\n}}\n"


INSTRUCTIONS = {
    "llvm.x86.avx512.permvar.sf.512": _permute("emulated_permvar_sf", 16, "float", "i32"),
    "llvm.x86.avx512.vpermi2var.ps.512": _permute("emulated_vpermi2var_ps", 16, "float", "i32", 2),
    "llvm.x86.avx512.permvar.hi.512": _permute("emulated_permvar_hi", 32, "i16", "i16"),
    "llvm.x86.avx512.permvar.qi.512": _permute("emulated_permvar_qi", 64, "i8", "i8"),
    "llvm.x86.avx512.vpdpbusd.512": _dot("emulated_vpdpbusd"),
}
ODD, EVEN = (", ".join(f"i32 {2 * lane + part}" for lane in range(16)) for part in (1, 0))
DOT_OF_BFLOAT16 = f"""
define linkonce_odr <16 x float> @tvm_balanced_dpbf16ps(<16 x float> %acc, <32 x i16> %x, <32 x i16> %w) alwaysinline nounwind {{
  %xw = zext <32 x i16> %x to <32 x i32>
  %ww = zext <32 x i16> %w to <32 x i32>
  %xs = shl <32 x i32> %xw, splat (i32 16)
  %ws = shl <32 x i32> %ww, splat (i32 16)
  %a = bitcast <32 x i32> %xs to <32 x float>
  %b = bitcast <32 x i32> %ws to <32 x float>
  %p = fmul <32 x float> %a, %b
  %odd = shufflevector <32 x float> %p, <32 x float> undef, <16 x i32> <{ODD}>
  %even = shufflevector <32 x float> %p, <32 x float> undef, <16 x i32> <{EVEN}>
  %s = fadd <16 x float> %acc, %odd
  %r = fadd <16 x float> %s, %even
  ret <16 x float> %r
}}
"""


@pytest.fixture
def emulated(monkeypatch):
    """Let kernels call the stand-ins; return what imports them into a scheduled function."""
    monkeypatch.setattr(
        T,
        "call_llvm_pure_intrin",
        lambda dtype, name, *args: T.call_pure_extern(dtype, INSTRUCTIONS[name].partition("@")[2].partition("(")[0], *args),
    )
    monkeypatch.setattr(cpu_avx512_bf16, "DOT", DOT_OF_BFLOAT16)
    return _with_stand_ins


def _with_stand_ins(func):
    sch = Schedule(func)
    block = sch.get_child_blocks(sch.get_sblock("root"))[0]
    loop = sch.get_loops(block)[0]
    others = str(sch.get(loop).annotations.get("pragma_import_llvm", ""))
    if others:
        sch.unannotate(loop, "pragma_import_llvm")
    sch.annotate(loop, "pragma_import_llvm", others + "".join(INSTRUCTIONS.values()))
    return sch.mod["main"]
