"""The roofline of a target, which the cost models of kernels use."""

import tvm
from tvm.target import Target

from tvm_balanced.runtime.host import cores
from tvm_balanced.runtime.target_features import is_gpu
from tvm_balanced.schedules.base.gpu_specs import gpu_of
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.schedules.tir.dot_products import has_dot_products
from tvm_balanced.selection import rooflines


def machine(target: tvm.target.Target) -> Roofline:
    """Return the rates that the cost model uses for a GPU: one "core" that is all of it."""
    return gpu_of(target).roofline


def roofline_of(target: Target, threads: int | None = None) -> Roofline:
    """Return the rates that the cost model uses for `target` with `threads` threads, all its cores by default.

    They are those of one 3.7 GHz core with two fused multiply-add units; verdicts use only ratios of times, in which the
    clock cancels, and the ratio of arithmetic to bandwidth, which is alike on today's CPUs.
    """
    if is_gpu(target):
        return rooflines.machine(target)
    width = lanes(target)
    count = threads or int(target.attrs.get("num-cores", 0)) or cores()
    # measured on a Zen 5 core: 118 GMAC/s with AVX-512, 34 GB/s from memory, 50 GB/s on two cores
    return Roofline(
        cores=count,
        gmacs=118 * width / 16,
        gbytes=34,
        gbytes_all=25 * count if count > 1 else 34,
        lanes=width,
        dot_products=has_dot_products(target),
    )
