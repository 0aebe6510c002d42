"""Random depthwise convolutions against float64; the plane; what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sample import examples

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.convolution import Convolution
from tvm_balanced.runtime.host import host_target, runs_here
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import ALL_KERNELS, DEPTHWISE_KERNELS, dense_kernels
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.kernels.cpu_conv_depthwise import Plane
from tvm_balanced.testing.operands import draw, relative_error, y_shape

LEVELS = [host_target(), *map(parse_target, ("cpu/x86-64-v3", "cpu/x86-64-v2"))]
HERE = [
    (kernel, t) for kernel in DEPTHWISE_KERNELS for t in LEVELS if kernel.refuses(t, 8, 9, "float32") is None and runs_here(t)
]
BASIC = Convolution(6, (1, 9, 21), (1, 3, 3), before=(0, 1, 1), after=(0, 1, 1), groups=6)


def run(workload, target):
    kernel, arguments = ALL_KERNELS[workload.kernel], draw(workload)
    func = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    y = tvm.runtime.tensor(np.full(y_shape(workload), np.nan, np.float32))
    build(func, target)["main"](*map(tvm.runtime.tensor, arguments.given), y)
    return y.numpy(), arguments.reference()


@st.composite
def convolutions(draw_):
    kernel = (1, draw_(st.integers(1, 5)), draw_(st.integers(1, 5)))
    dilation, before, after = ((1, *draw_(st.tuples(*[st.integers(1, 2)] * 2))), *(draw_(pads()) for _ in range(2)))
    least = [d * (taps - 1) + 1 for d, taps in zip(dilation, kernel, strict=True)]
    more = (0, draw_(st.integers(0, 9)), draw_(st.integers(0, 40)))
    size = tuple(n + extra for n, extra in zip(least, more, strict=True))
    stride = (1, draw_(st.integers(1, 3)), draw_(st.integers(1, 2)))
    return Convolution(3, size, kernel, stride, dilation, before, after, 3).flattened()


def pads():
    return st.tuples(st.just(0), st.integers(0, 3), st.integers(0, 3))


@pytest.mark.slow
@settings(max_examples=examples(12), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    conv=convolutions(),
    per_channel=st.integers(1, 2),
    batch=st.integers(1, 2),
    activation=st.sampled_from(["none", "silu"]),
    residual=st.booleans(),
    place=st.integers(0, len(HERE) - 1),
)
def test_random_convolutions(conv, per_channel, batch, activation, residual, place):
    kernel, target = HERE[place]
    epilogue = {"activation": activation, "residual": residual}
    workload = kernel.workload(batch * conv.pixels, 3 * per_channel, conv.taps, None, conv=conv, **epilogue)
    got, want = run(workload, target)
    assert relative_error(got, want) < 1e-5


def test_any_number_of_images_and_threads():
    kernel, target = HERE[0]
    workload = kernel.workload(2 * BASIC.pixels, 6, 9, None, conv=BASIC, residual=True)
    arguments, symbolic = draw(workload), replace(workload, m=None)
    func = kernel.schedule(kernel.prim_func(symbolic), symbolic, target).with_attr("global_symbol", "main")
    main, found = build(func, target)["main"], []
    for threads in (1, 2):
        use_threads(threads)
        y = tvm.runtime.tensor(np.full(y_shape(workload), np.nan, np.float32))
        main(*map(tvm.runtime.tensor, arguments.given), y)
        found.append(y.numpy())
    assert relative_error(found[0], arguments.reference()) < 1e-5
    np.testing.assert_array_equal(*found)


def test_a_convolution_of_a_model_gets_it_before_the_others():
    kernel, _ = HERE[0]
    takes = [one for one in dense_kernels(BASIC) if one.refuses_conv(BASIC) is None]
    assert next(one for one in takes if one.refuses(host_target(), 6, 9, "float32") is None) is kernel


def test_a_row_of_the_plane_meets_every_row_of_the_result_that_reads_it():
    plane = Plane(BASIC, 16)
    assert (plane.rows, plane.vectors, plane.height, plane.pitch) == (4, 1, 11, 32)
    assert list(plane.copies()) == [(0, 1, 0, 21)]
    meetings = dict(plane.meetings())
    assert meetings[0] == [(0, 0)]
    assert meetings[2] == [(0, 2), (1, 1), (2, 0)]
    assert sum(map(len, meetings.values())) == 4 * 3
    strided = Plane(Convolution(2, (1, 5, 10), (1, 3, 3), (1, 2, 2), before=(0, 1, 1), after=(0, 1, 1), groups=2), 4)
    assert list(strided.copies()) == [(0, 1, 1, 5), (1, 0, 0, 5)]


@pytest.mark.parametrize(
    ("conv", "why"),
    [
        (Convolution(6, (1, 9, 9), (1, 3, 3), groups=3), "the convolution is not depthwise"),
        (Convolution(6, (1, 9, 9), (1, 3, 3)), "the convolution is not depthwise"),
        (Convolution(6, (3, 9, 9), (1, 3, 3), groups=6), "it is over three dimensions or transposed"),
        (Convolution(6, (1, 9, 9), (1, 3, 3), spread=(1, 2, 2), groups=6), "it is over three dimensions or transposed"),
        (Convolution(6, (1, 9, 9), (1, 3, 3), stride=(1, 1, 3), groups=6), "columns of stride 3, or more than 64 taps"),
        (Convolution(6, (1, 19, 19), (1, 9, 9), groups=6), "columns of stride 1, or more than 64 taps"),
        (Convolution(6, (1, 9, 9), (1, 3, 3), groups=6), "rows of 7 pixels are less than half a vector of 16"),
        (Convolution(6, (1, 999, 99), (1, 3, 3), groups=6), "a channel takes 111888 elements, more than 65536"),
    ],
)
def test_refusals(conv, why):
    assert DEPTHWISE_KERNELS[0].refuses_conv(conv) == why


def test_more_taps_take_more_time():
    kernel, roofline = DEPTHWISE_KERNELS[0], Roofline(1, 50.0, 10.0, 20.0, 16)
    small, large = (
        kernel.workload(81, 6, taps * taps, None, conv=Convolution(6, (1, 8 + taps, 8 + taps), (1, taps, taps), groups=6))
        for taps in (3, 5)
    )
    assert kernel.seconds(small, 81, roofline) < kernel.seconds(large, 81, roofline) < kernel.seconds(large, 162, roofline)
