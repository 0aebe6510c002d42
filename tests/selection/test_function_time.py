from dataclasses import replace

import pytest

from tvm_balanced.core.accounting import FunctionUse
from tvm_balanced.schedules import Roofline
from tvm_balanced.selection.function_time import seconds

ROOFLINE = Roofline(cores=4, gmacs=64, gbytes=32, gbytes_all=50, lanes=8)
COMPUTE = FunctionUse("f", 1, 64e9, 1000, True)
COPY = FunctionUse("g", 1, 1.0, 50 * 10**9, True)


def test_what_a_rule_scheduled_is_as_fast_as_the_machine_lets_a_kernel_be():
    assert seconds(COMPUTE, ROOFLINE) == pytest.approx(ROOFLINE.seconds(64e9, 0.5, 1000))
    assert seconds(COPY, ROOFLINE) == pytest.approx(1.0)


def test_a_naive_loop_takes_one_core_and_one_lane():
    naive = replace(COMPUTE, scheduled=False)
    assert seconds(naive, ROOFLINE) == pytest.approx(8 * 8)  # lanes, and the cycles of an addition
    assert seconds(naive, replace(ROOFLINE, cores=1)) == seconds(naive, ROOFLINE)
    assert seconds(replace(COPY, scheduled=False), ROOFLINE) == pytest.approx(50 / 32)


def test_every_launch_on_a_gpu_takes_its_time():
    gpu = replace(ROOFLINE, launch=1e-3)
    assert seconds(replace(COPY, calls=7), gpu) == pytest.approx(1.0 + 7e-3)
