"""The GPUs that targets may name, and what the cost model knows of them. To add one, add its line."""

from dataclasses import dataclass, replace

import tvm


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
LARGEST_L2 = 128 << 20  # of an unknown GPU: weights that are to come from memory then rotate over enough


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
