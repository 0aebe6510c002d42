"""The layout, the instructions and what is refused; test_cpu_conv_dense_i8.py compares results with integers."""

from dataclasses import replace

import numpy as np
import pytest
from support import eight_bits

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import ALL_KERNELS
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.testing.operands import random_weight

P = BalancedPattern.parse
KERNEL = ALL_KERNELS["cpu_conv_sparse_avx2_i8"]
CONV = Convolution(48, (1, 9, 9), (1, 3, 3), before=(0, 1, 1), after=(0, 1, 1))


def test_layout_is_the_documented_one(rng):
    """A run of 3 taps of 48 channels is nine blocks: five chunks of two, of two steps each, of which the last has one block."""
    weight = random_weight(20, 432, P("4:16"), rng)
    values, indices, scales, totals = KERNEL.pack(weight, CONV)
    assert (values.shape, indices.shape, scales.shape, totals.shape) == ((2, 30, 64), (2, 15, 64), (2, 16), (2, 16))
    whole = eight_bits.rounded_weight(weight.decode())[0]
    for row, block, slot in ((0, 0, 0), (5, 8, 1), (17, 9, 0), (19, 26, 3)):
        step, byte = block // 9 * 10 + block % 9, 4 * (row % 16) + slot
        column = int(indices[row // 16, step // 2, byte] >> 4 * (step % 2) & 15)
        assert column == weight.indices[row, block, slot]
        assert values[row // 16, step, byte] == whole[row, 16 * block + column]
    assert np.count_nonzero(values) == np.count_nonzero(whole)


@pytest.mark.grid
@pytest.mark.parametrize(("cpu", "product"), [("x86-64-v3", "vpmaddubsw"), ("sierraforest", "vpdpbusd")])
def test_instructions(cpu, product):
    target, workload = parse_target(f"cpu/{cpu}"), KERNEL.workload(81, 16, 432, P("4:16"), conv=CONV)
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    lines = build(function, target).mod.inspect_source("asm").splitlines()
    assert sum("vpshufb" in line for line in lines) >= sum(product in line for line in lines) >= 16  # 2 steps of 4x2 sums
    assert not any("zmm" in line for line in lines)


def test_refusals():
    assert KERNEL.refuses_conv(CONV) is None
    assert KERNEL.refuses_conv(replace(CONV, channels=40)) == "blocks of 16 lie across taps"
    assert KERNEL.refuses(parse_target("cpu/x86-64-v2"), 64, 432, "float32") == "the target has no AVX2"
    assert KERNEL.refuses(parse_target("cpu/x86-64-v3"), 64, 432, "float32") is None
    assert "float16" in KERNEL.refuses(parse_target("cpu/x86-64-v3"), 64, 432, "float16")


def test_fewer_nonzeros_and_fewer_pixels_take_less_time():
    roofline = Roofline(1, 50.0, 10.0, 20.0, 8)
    few, many = (KERNEL.workload(81, 64, 432, P(pattern), conv=CONV) for pattern in ("4:16", "8:16"))
    assert KERNEL.seconds(few, 81, roofline) < KERNEL.seconds(many, 81, roofline) < KERNEL.seconds(many, 162, roofline)
