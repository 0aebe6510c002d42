"""The GPUs that targets may name, and what the cost model knows of them. To add one, add its line."""

import re
from dataclasses import dataclass, replace

import tvm

from tvm_balanced.schedules.machine import Machine


@dataclass(frozen=True)
class Gpu:
    """Vendor figures of one GPU.

    Parameters
    ----------
    arch : str
        As nvcc names it.
    multiprocessors : int
    gbytes : float
        Read bandwidth of its memory, 10^9 bytes a second.
    fp32_gmacs, half_gmacs : float
        Multiply-adds of all CUDA cores in float32, and of all tensor cores on float16 with sums in float32, 10^9 a second.
    l2_bytes : int
        Second-level cache.
    """

    arch: str
    multiprocessors: int
    gbytes: float
    fp32_gmacs: float
    half_gmacs: float
    l2_bytes: int


GPUS = {
    "a100": Gpu("sm_80", 108, 2039, 9750, 156_000, 40 << 20),
    "rtx3090": Gpu("sm_86", 82, 936, 17_800, 35_500, 6 << 20),
    "rtx4090": Gpu("sm_89", 128, 1008, 41_300, 82_600, 72 << 20),
    "l40s": Gpu("sm_89", 142, 864, 45_800, 181_000, 96 << 20),
    "h100": Gpu("sm_90", 132, 3350, 33_500, 494_500, 50 << 20),
    "h200": Gpu("sm_90", 132, 4800, 33_500, 494_500, 50 << 20),
}
H200 = GPUS["h200"]  # on which defaults were chosen
# Shared memory that a thread block may ask for at most, in KiB, by compute capability (CUDA C++ Programming Guide, compute
# capabilities). A newer GPU than these has at least what all have from sm_80 on.
SHARED_KIB = {75: 64, 80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227, 110: 227, 120: 99, 121: 99}
LEAST_SHARED_KIB = 99
LARGEST_L2 = 128 << 20  # of an unknown GPU: weights that are to come from memory then rotate over enough
# What TVM must be told to compile these kernels: copies marked as asynchronous become cp.async. Its StorageRewrite would make
# a buffer that is only stored to in vectors one of vectors, which the pass that makes cp.async refuses; nvcc needs none of it.
PASS_CONFIG = {"tirx.use_async_copy": True, "tirx.disable_storage_rewrite": True}
# TVM's name of the thread blocks that are to fit a multiprocessor together. Where a kernel says nothing, ptxas keeps to registers
# for as many threads as can be, and for that lets loads wait for the use of others: cuda_gemv got 32 registers and two loads on
# their way; with "1 at least" it takes 48, and all four loads of a step go first.
MIN_BLOCKS = "tirx.launch_bounds_min_blocks_per_sm"
# Seconds that a kernel takes which does nothing, when launched from a CUDA graph.
LAUNCH = 2e-6


def named(device: str, arch: str) -> str | None:
    """Return the name in GPUS of a device, as its driver calls it: "NVIDIA GeForce RTX 3090" is "rtx3090", a GH200 no H200."""
    words = device.lower().removeprefix("nvidia").strip().removeprefix("geforce").replace(" ", "")
    return next((name for name, gpu in GPUS.items() if words.startswith(name) and gpu.arch == arch), None)


def gpu_of(target: tvm.target.Target) -> Gpu:
    """Return the GPU that a CUDA target names, or the first of its architecture where it names none.

    An unknown one has the rates of an H100, of which verdicts use the ratios, and the largest second-level cache there is.
    """
    arch = str(target.attrs.get("arch", ""))
    named = GPUS.get(str(target.attrs.get("model", "")))
    alike = (gpu for gpu in GPUS.values() if gpu.arch == arch)
    return named or next(alike, replace(GPUS["h100"], arch=arch, l2_bytes=LARGEST_L2))


def capability(target: tvm.target.Target) -> int:
    """Return the compute capability that a CUDA target compiles for: 90 for sm_90a, 120 for sm_120."""
    return int(re.sub(r"\D", "", str(target.attrs["arch"])))


def too_old(target: tvm.target.Target, needed: int) -> str | None:
    """Return that a kernel needs a newer GPU than the target, None where it does not; OpenCL stands for any GPU."""
    if target.kind.name != "cuda" or capability(target) >= needed:
        return None
    return f"it needs sm_{needed} or newer"


def shared_scope(target: tvm.target.Target) -> str:
    """Return TVM's name of the shared memory that kernels use: CUDA's dynamic kind, which may exceed 48 KiB, not on OpenCL."""
    return "shared" if target.kind.name == "opencl" else "shared.dyn"


def shared_bytes(target: tvm.target.Target) -> int:
    """Return the shared memory that a thread block may ask for on a target's GPU; OpenCL stands for any GPU."""
    known = SHARED_KIB.get(capability(target), LEAST_SHARED_KIB) if target.kind.name == "cuda" else LEAST_SHARED_KIB
    return known << 10


def limits(target: tvm.target.Target) -> tvm.target.Target:
    """Return `target` with all the shared memory that its GPU gives a thread block, for MetaSchedule's VerifyGPUCode.

    Targets themselves say 48 KiB, what every kernel may use without asking: TVM's own schedules keep to that.
    """
    return tvm.target.Target({**target.export(), "max_shared_memory_per_block": shared_bytes(target)})


def machine(target: tvm.target.Target) -> Machine:
    """Return the rates that the cost model uses for a GPU: one "core" that is all of it."""
    gpu = gpu_of(target)
    return Machine(
        cores=1,
        gmacs=gpu.fp32_gmacs,
        gbytes=gpu.gbytes,
        gbytes_all=gpu.gbytes,
        lanes=32,
        tensor_gmacs=gpu.half_gmacs,
        launch=LAUNCH,
        multiprocessors=gpu.multiprocessors,
    )
