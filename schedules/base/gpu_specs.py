"""The GPUs that targets may name, and their figures for the cost model. To add a GPU, add its line."""

from dataclasses import dataclass, replace

import tvm

from tvm_balanced.schedules.base.roofline import Roofline

# Seconds that a kernel takes which does nothing, when launched from a CUDA graph.
LAUNCH = 2e-6


@dataclass(frozen=True)
class Gpu:
    """Vendor figures of one GPU.

    Parameters
    ----------
    arch : str
        nvcc's name of the architecture.
    multiprocessors : int
    gbytes : float
        Read bandwidth of its memory, 10^9 bytes a second.
    fp32_gmacs, half_gmacs : float
        Multiply-adds in 10^9 a second: of all CUDA cores in float32, and of all tensor cores in
        float16 with sums in float32.
    l2_bytes : int
        Size of the second-level cache.
    """

    arch: str
    multiprocessors: int
    gbytes: float
    fp32_gmacs: float
    half_gmacs: float
    l2_bytes: int

    @property
    def roofline(self) -> Roofline:
        """The rates that the cost models use: one "core" that is all of it."""
        return Roofline(
            cores=1,
            gmacs=self.fp32_gmacs,
            gbytes=self.gbytes,
            gbytes_all=self.gbytes,
            lanes=32,
            tensor_gmacs=self.half_gmacs,
            launch=LAUNCH,
            multiprocessors=self.multiprocessors,
        )


GPUS = {
    "a100": Gpu("sm_80", 108, 2039, 9750, 156_000, 40 << 20),
    "rtx3090": Gpu("sm_86", 82, 936, 17_800, 35_500, 6 << 20),
    "rtx4090": Gpu("sm_89", 128, 1008, 41_300, 82_600, 72 << 20),
    "l40s": Gpu("sm_89", 142, 864, 45_800, 181_000, 96 << 20),
    "h100": Gpu("sm_90", 132, 3350, 33_500, 494_500, 50 << 20),
    "h200": Gpu("sm_90", 132, 4800, 33_500, 494_500, 50 << 20),
}
H200 = GPUS["h200"]  # the defaults were chosen on it
LARGEST_L2 = 128 << 20  # of an unknown GPU: benchmarks with weights from memory rotate through enough bytes


def named(device: str, arch: str) -> str | None:
    """Return the GPUS key for a driver's device name. "NVIDIA GeForce RTX 3090" is "rtx3090"; a GH200 is no H200."""
    words = device.lower().removeprefix("nvidia").strip().removeprefix("geforce").replace(" ", "")
    return next((name for name, gpu in GPUS.items() if words.startswith(name) and gpu.arch == arch), None)


def gpu_of(target: tvm.target.Target) -> Gpu:
    """Return the GPU that a CUDA target names. If it names none, return the first GPU of its architecture.

    An unknown GPU gets the rates of an H100, because verdicts only use their ratios, and the
    largest second-level cache there is.
    """
    arch = str(target.attrs.get("arch", ""))
    named = GPUS.get(str(target.attrs.get("model", "")))
    alike = (gpu for gpu in GPUS.values() if gpu.arch == arch)
    return named or next(alike, replace(GPUS["h100"], arch=arch, l2_bytes=LARGEST_L2))
