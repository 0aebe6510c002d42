"""Which convolutions in groups are faster in 8 bits, and does the verdict know? `python -m benchmarks.int8_groups`.

The kernels of this machine in float32 and in 8 bits take turns on 3x3 convolutions of ResNeXt-50, RegNet-Y and MobileNetV2, dense
and at 4:16, in seconds of this thread's CPU. Beside the measured ratio stands the model's; verdicts rest on which side of 1 it
lies.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.int8_verdict import ROUNDS, call_of, in_turns
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import ALL_KERNELS, Kernel, Workload, dense_kernels, sparse_kernels
from tvm_balanced.selection.rooflines import roofline_of

LAYERS = (  # channels, side of the image, groups
    *((128, 56, 32), (256, 28, 32), (512, 14, 32), (1024, 7, 32)),  # ResNeXt-50 32x4d: 4 to 32 channels a group
    *((120, 28, 5), (336, 14, 14), (224, 56, 4)),  # RegNet-Y of 1.6 and of 8 GF: 24 and 56
    *((144, 56, 144), (384, 14, 384)),  # MobileNetV2: depthwise
)
PATTERNS = ("dense", "4:16")


def workloads(channels: int, side: int, groups: int, pattern: str) -> list[Workload]:
    """Return a 3x3 convolution in float32 and in 8 bits by the first kernels that take it; the first alone where only it is."""
    conv = Convolution(channels, (1, side, side), (1, 3, 3), before=(0, 1, 1), after=(0, 1, 1), groups=groups)
    kernels: Sequence[Kernel] = dense_kernels(conv) if pattern == "dense" else sparse_kernels(conv)
    stored = None if pattern == "dense" else BalancedPattern.parse(pattern)
    k, found = conv.depth * conv.taps, []
    for precision in ("float32", "int8"):
        fits = (one for one in kernels if one.precision == precision and one.refuses_conv(conv) is None)
        kernel = next((one for one in fits if one.refuses(host_target(), channels, k, "float32") is None), None)
        if kernel is not None:
            found.append(kernel.workload(conv.pixels, channels, k, stored, conv=conv))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    use_threads(1)
    machine = roofline_of(host_target(), 1)
    table = Table("layer", "pattern", "float32, us", "8 bits, us", "8 bits over float32", "modelled")
    for channels, side, groups in LAYERS:
        for pattern in PATTERNS:
            layers = workloads(channels, side, groups, pattern)
            times = in_turns([call_of(workload, host_target()) for workload in layers], options.rounds)
            us = [f"{median * 1e6:.0f}" for median in np.median(times, axis=0)]
            cells = [us[0], "-", "-", "-"]
            if len(layers) > 1:
                low, middle, high = np.percentile(times[:, 0] / times[:, 1], (20, 50, 80))
                exact, rounded = (ALL_KERNELS[one.kernel].seconds(one, one.m or 1, machine) for one in layers)
                cells = [*us, f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{exact / rounded:.2f}"]
            table.add_row(f"{channels}x{side}x{side}, {channels // groups} a group", pattern, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
