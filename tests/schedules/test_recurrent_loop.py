import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import tirx

from tvm_balanced.compiler.build import build
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS
from tvm_balanced.schedules.recurrent_loop import STATE, THREADS_FROM, Call, Recurrence, prim_func

KERNEL = KERNELS["cpu_dense"]


def dense(batch, n, k):
    """A product by our dense kernel: the Call, and what packs its weight (N, K)."""
    workload = KERNEL.workload(batch, n, k, None)
    return Call(KERNEL.schedule(KERNEL.prim_func(workload), workload, host_target()), (STATE, None, None))


def run(func, inputs, outputs):
    results = [tvm.runtime.tensor(np.full(shape, np.nan, np.float32)) for shape in outputs]
    build(func.with_attr("global_symbol", "main"), host_target())(*map(tvm.runtime.tensor, inputs), *results)
    return [result.numpy() for result in results]


@pytest.mark.grid
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_loop_over_time(symbolic, reverse, batch_first, rng):
    steps, batch, units = 5, 3, 24
    weight, h = rng.standard_normal((units, units)).astype(np.float32), rng.standard_normal((batch, units)).astype(np.float32)
    gates = rng.standard_normal((steps, batch, units)).astype(np.float32)
    known = (None, None) if symbolic else (steps, batch)
    layer = Recurrence("rnn_tanh", *known, units, units, "float32", reverse, batch_first)
    func = prim_func(layer, [[dense(known[1], units, units)]])
    given = np.ascontiguousarray(gates.swapaxes(0, 1)) if batch_first else gates
    packed = [*KERNEL.pack(weight), KERNEL.pack_bias(np.zeros(units, np.float32))]
    y, last, _ = run(func, [given, h, *packed], [(*given.shape[:2], units), (batch, units), (batch, units)])
    state, want = h.astype(np.float64), np.zeros((steps, batch, units))
    for time in reversed(range(steps)) if reverse else range(steps):
        state = want[time] = np.tanh(gates[time] + state @ weight.T)
    np.testing.assert_allclose(y.swapaxes(0, 1) if batch_first else y, want, atol=1e-5)
    np.testing.assert_allclose(last, state, atol=1e-5)


def test_parameters_are_what_the_steps_read_then_states_then_scratch():
    layer = Recurrence("lstm", None, 2, 32, 16, "float32")
    func = prim_func(layer, [[dense(2, 128, 16)], [dense(2, 16, 32)]])
    names = ["gates", "initial_h", "initial_c", "values", "bias", "values", "bias", "y", "h", "c", "y", "hidden", "y"]
    assert [param.name for param in func.params] == names
    assert [int(size) for size in func.params[-3].shape] == [2, 128]


def test_half_precision_keeps_its_state_in_float32():
    workload = KERNEL.workload(2, 96, 32, None, "float16")
    product = [Call(KERNEL.schedule(KERNEL.prim_func(workload), workload, host_target()), (STATE, None, None))]
    func = prim_func(Recurrence("gru", 4, 2, 32, 32, "float16"), [product])
    assert {param.name: str(param.dtype) for param in func.params if param.name.startswith("h")} == {
        "h": "float16",
        "h_float32": "float32",
    }


@pytest.mark.parametrize("units", [64, 768])
def test_threads_take_part_if_a_step_is_long(units):
    func, found = prim_func(Recurrence("rnn_relu", 4, 1, units, units, "float32"), [[dense(1, units, units)]]), []
    tvm_ffi.structural_walk(func.body, (tirx.For, found.append))
    assert (tirx.ForKind.PARALLEL in {loop.kind for loop in found}) == (units * units >= THREADS_FROM)
