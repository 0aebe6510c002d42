"""Properties of a TVM target: architecture, instruction sets, the name of its folder."""

from tvm.target import Target, codegen

# Features that LLVM may use once a CPU is named. An artifact needs all of these that its CPU has.
ISA_FEATURES = frozenset(
    """
    sse3 ssse3 sse4.1 sse4.2 popcnt avx avx2 fma f16c bmi bmi2 lzcnt movbe adx aes sha pclmul vaes vpclmulqdq gfni avxvnni
    avx512f avx512bw avx512cd avx512dq avx512vl avx512ifma avx512vbmi avx512vbmi2 avx512vnni avx512bitalg avx512vpopcntdq
    avx512bf16 avx512fp16 avx512vp2intersect amx-tile amx-int8 amx-bf16
    neon crc lse rdm rcpc dotprod fullfp16 fp16fml jsconv complxnum i8mm bf16 sve sve2 sha2 sha3 sm4 sme
    """.split()
)


def is_gpu(target: Target) -> bool:
    """Whether a target's kernels run on a GPU."""
    return str(target.kind.name) == "cuda"


def cpu_of(target: Target) -> Target:
    """Return the CPU that runs, or launches, code compiled for a target."""
    return target.host if is_gpu(target) else target


def architecture(target: Target) -> str:
    """Return the architecture that a target compiles for, as the first part of LLVM's triple: "x86_64"."""
    triple = str(cpu_of(target).attrs.get("mtriple", "")) or codegen.llvm_get_system_triple()
    return triple.split("-")[0]


def required_features(target: Target) -> frozenset[str]:
    """Return the instruction sets, by LLVM's names, that code for `target` may use."""
    cpu = cpu_of(target)
    disabled = {str(a)[1:] for a in cpu.attrs.get("mattr", []) if str(a).startswith("-")}
    return frozenset(codegen.llvm_get_cpu_features(cpu)) & ISA_FEATURES - disabled


def target_key(target: Target) -> str:
    """Return the name of the tuning-log folder of a target: kind, architecture and CPU, or kind, arch and GPU."""
    if is_gpu(target):
        return "-".join(("cuda", str(target.attrs["arch"]), str(target.attrs.get("model", "generic"))))
    return "-".join((target.kind.name, architecture(target), str(target.attrs.get("mcpu", "generic"))))
