"""Linear recurrences over time, beside a loop of NumPy in float64."""

import numpy as np
import pytest
import tvm
from tvm import tirx

from tvm_balanced.compiler.build import build
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules.linear_scan import LinearScan, prim_func
from tvm_balanced.testing import opencl


def operands(batch, channels, length, columns, dtype="float32"):
    rng = np.random.default_rng(0)
    shape = (batch, channels, length, columns)
    a, b = rng.uniform(-1, 1, shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    return (
        a,
        b,
        rng.standard_normal((batch, channels, columns)).astype(dtype),
        rng.standard_normal((batch, length, columns)).astype(dtype),
    )


def reference(a, b, start, c):
    """(all states, y, the last state)"""
    a, b, c, state = (one.astype("float64") for one in (a, b, c, start))
    states = []
    for time in range(a.shape[2]):
        state = a[:, :, time] * state + b[:, :, time]
        states.append(state)
    states = np.stack(states, 2)
    return states, np.einsum("bdtn,btn->bdt", states, c), states[:, :, -1]


CASES = [(1, 1, 1, 1), (2, 3, 5, 16), (1, 7, 33, 10), (1, 1, 9, 200), (3, 1, 6, 65), (1, 32, 40, 16)]


@pytest.mark.parametrize("sizes", CASES, ids=str)
@pytest.mark.parametrize("reads", [False, True], ids=["states", "read"])
def test_all_states_and_what_reads_them(sizes, reads):
    check(sizes, reads, sizes)


@pytest.mark.parametrize("reads", [False, True], ids=["states", "read"])
def test_sizes_that_are_known_at_the_call(reads):
    symbols = [tirx.Var(name, "int64") for name in ("batch", "channels", "length")]
    check((2, 3, 21, 16), reads, (*symbols, 16))


def test_double_precision():
    check((2, 3, 5, 12), True, (2, 3, 5, 12), "float64", 1e-13)


def check(sizes, reads, known, dtype="float32", tolerance=2e-6):
    a, b, start, c = operands(*sizes, dtype)
    batch, channels, length, columns = known
    func = prim_func(LinearScan(batch, channels, length, columns, reads, dtype))
    run = build(func.with_attr("global_symbol", "main"), host_target())["main"]
    states, y, last = reference(a, b, start, c)
    wanted = [y, last] if reads else [states]
    results = [tvm.runtime.tensor(np.full(one.shape, np.nan, dtype)) for one in wanted]
    run(*map(tvm.runtime.tensor, (a, b, start, *([c] if reads else []))), *results)
    for result, want in zip(results, wanted, strict=True):
        np.testing.assert_allclose(result.numpy(), want, atol=tolerance * max(1.0, np.abs(want).max()), rtol=0)


@pytest.mark.pocl
@pytest.mark.parametrize("result", ["states", "y", "last"])
def test_a_kernel_of_a_gpu_gives_the_same(result):
    sizes, reads = (2, 5, 7, 16), result != "states"
    func = prim_func(LinearScan(*sizes, reads, "float32"), gpu=True).with_attr("global_symbol", "main")
    arrays = dict(zip(("a", "b", "start", "c"), operands(*sizes), strict=True))
    wanted = dict(zip(("states", "y", "last"), reference(*arrays.values()), strict=True))
    params = sorted(func.params, key=lambda param: param.name == result)  # what is given back stands last
    ordered = tirx.PrimFunc(params, func.body, func.ret_type, func.attrs)
    given = [arrays[p.name] if p.name in arrays else np.full(wanted[p.name].shape, np.nan, "float32") for p in params]
    np.testing.assert_allclose(opencl.run(ordered, given), wanted[result], atol=1e-5, rtol=0)
