"""Properties of a target that schedules need: lanes of a vector, shared memory, compute capability."""

import re

import tvm
from tvm.target import codegen

# The most shared memory that a thread block may ask for, in KiB, by compute capability (CUDA C++
# Programming Guide, compute capabilities). A newer GPU has at least as much as the smallest from
# sm_80 on.
SHARED_KIB = {75: 64, 80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227, 110: 227, 120: 99, 121: 99}
LEAST_SHARED_KIB = 99


def capability(target: tvm.target.Target) -> int:
    """Return the compute capability that a CUDA target compiles for: 90 for sm_90a, 120 for sm_120."""
    return int(re.sub(r"\D", "", str(target.attrs["arch"])))


def too_old(target: tvm.target.Target, needed: int) -> str | None:
    """Explain that a kernel needs a newer GPU than the target, None if it does not. OpenCL stands for any GPU."""
    if target.kind.name != "cuda" or capability(target) >= needed:
        return None
    return f"it needs sm_{needed} or newer"


def has_clusters(target: tvm.target.Target) -> bool:
    """Whether thread blocks of a target can form clusters, which read and write each other's shared memory."""
    return bool(target.kind.name == "cuda") and capability(target) >= 90


def shared_scope(target: tvm.target.Target) -> str:
    """Return TVM's name of the shared memory that kernels use. On CUDA it is the dynamic kind,
    which may exceed 48 KiB.
    """
    return "shared" if target.kind.name == "opencl" else "shared.dyn"


def shared_bytes(target: tvm.target.Target) -> int:
    """Return the bytes of shared memory that a thread block may ask for on a target's GPU. OpenCL
    stands for any GPU.
    """
    known = SHARED_KIB.get(capability(target), LEAST_SHARED_KIB) if target.kind.name == "cuda" else LEAST_SHARED_KIB
    return known << 10


def limits(target: tvm.target.Target) -> tvm.target.Target:
    """Return `target` with all the shared memory that its GPU gives a thread block, for MetaSchedule's VerifyGPUCode.

    Targets themselves declare 48 KiB, which every kernel may use without asking. TVM's own
    schedules stay within that.
    """
    return tvm.target.Target({**target.export(), "max_shared_memory_per_block": shared_bytes(target)})


def lanes(target: tvm.target.Target) -> int:
    """Return the number of fp32 elements in a vector register of `target`.

    This does not use llvm_get_vector_width: in TVM 0.27 it returns 512 bits for every x86 CPU, with
    or without AVX-512.
    """
    if codegen.llvm_cpu_has_features("avx512f", target):
        return 16
    return 8 if codegen.llvm_cpu_has_features("avx", target) else 4


def is_aarch64(target: tvm.target.Target) -> bool:
    """Whether a CPU's target is a 64-bit ARM, little-endian; each of these has NEON."""
    return str(target.attrs.get("mtriple", "") or codegen.llvm_get_system_triple()).split("-")[0] in ("aarch64", "arm64")


def is_x86(target: tvm.target.Target) -> bool:
    """Whether a CPU's target is an x86."""
    return "86" in str(target.attrs.get("mtriple", "") or codegen.llvm_get_system_triple()).split("-")[0]
