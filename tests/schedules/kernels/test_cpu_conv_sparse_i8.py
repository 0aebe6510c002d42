"""The layout, the inner loop and what is refused; test_cpu_conv_dense_i8.py compares results with integers."""

from dataclasses import replace

import numpy as np
import pytest
from support import eight_bits

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.weight_matrix import CHANNELS_FIRST
from tvm_balanced.schedules import ALL_KERNELS
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.testing.operands import random_weight

P = BalancedPattern.parse
KERNEL = ALL_KERNELS["cpu_conv_sparse_avx512_i8"]
CONV = Convolution(48, (1, 9, 9), (1, 3, 3), before=(0, 1, 1), after=(0, 1, 1))


@pytest.mark.parametrize("pattern", ["2:16", "3:16"])
def test_layout_is_the_documented_one(pattern, rng):
    """A run of 3 taps of 48 channels is 144 bytes: three windows, of which the last has one block."""
    weight = random_weight(20, 432, P(pattern), rng)
    nnz = P(pattern).nnz
    values, indices, scales, totals = KERNEL.pack(weight, CONV)
    steps = (3 * 3 + nnz % 2) * nnz  # an even number of windows where they have an odd number of steps
    assert (values.shape, indices.shape, scales.shape, totals.shape) == ((2, steps, 64), (2, steps // 2, 64), (2, 16), (2, 16))
    whole = eight_bits.rounded_weight(weight.decode())[0]
    for row, block, slot in ((0, 0, 0), (5, 8, 1), (17, 9, 0), (19, 26, nnz - 1)):
        window, place = block // 9 * 3 + block % 9 // 4, block % 9 % 4
        step, byte = window * nnz + slot, 4 * (row % 16) + place
        column = indices[row // 16, step // 2, byte] >> 4 * (step % 2) & 15
        assert column == weight.indices[row, block, slot]
        assert values[row // 16, step, byte] == whole[row, 16 * block + int(column)]
    assert np.count_nonzero(values) == np.count_nonzero(whole)
    np.testing.assert_array_equal(totals.ravel()[:20], whole.sum(axis=1))


def test_inner_loop_is_byte_permutes_and_dot_products():
    workload = KERNEL.workload(81, 64, 432, P("2:16"), conv=CONV)
    target = parse_target("cpu/znver4")
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    lines = build(function, target).mod.inspect_source("asm").splitlines()
    permutes, products = (sum(name in line for line in lines) for name in ("vpermb", "vpdpbusd"))
    assert permutes == products
    assert permutes % 32 == 0  # 2 steps of 8x2 sums


def test_refusals():
    assert KERNEL.refuses_conv(CONV) is None
    assert KERNEL.refuses_conv(replace(CONV, order=CHANNELS_FIRST)) == "blocks of 16 lie across taps"
    assert KERNEL.refuses_conv(replace(CONV, channels=40)) == "blocks of 16 lie across taps"
    assert KERNEL.refuses_conv(replace(CONV, channels=40, kernel=(1, 1, 1))) is None
    assert KERNEL.refuses_conv(replace(CONV, groups=3)) is None
    assert KERNEL.refuses_conv(replace(CONV, groups=6)) == "blocks of 16 lie across taps"
    assert "VBMI" in KERNEL.refuses(parse_target("cpu/x86-64-v4"), 64, 432, "float32")
    assert KERNEL.refuses(parse_target("cpu/znver4"), 64, 432, "float32") is None
    assert "float16" in KERNEL.refuses(parse_target("cpu/znver4"), 64, 432, "float16")


def test_fewer_nonzeros_and_fewer_pixels_take_less_time():
    roofline = Roofline(1, 50.0, 10.0, 20.0, 16)
    few, many = (KERNEL.workload(81, 64, 432, P(pattern), conv=CONV) for pattern in ("2:16", "4:16"))
    assert KERNEL.seconds(few, 81, roofline) < KERNEL.seconds(many, 81, roofline) < KERNEL.seconds(many, 162, roofline)
