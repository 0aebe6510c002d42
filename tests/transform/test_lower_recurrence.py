import numpy as np
import pytest
import tvm
from support.relax_modules import module
from tvm import relax
from tvm.script import tirx as T

import tvm_balanced.transform  # noqa: F401 - registers the operators
from tvm_balanced.ops import recurrence, recurrent_state
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules.recurrent_loop import STATE, Call, Recurrence, prim_func
from tvm_balanced.transform.lower_recurrence import LowerRecurrence

WEIGHT = np.ones((8, 8), np.float32)
STEPS, BATCH = 6, 2


@T.prim_func(private=True, s_tir=True)
def product(
    x: T.Buffer((T.int64(2), T.int64(8)), "float32"),
    weight: T.Buffer((T.int64(8), T.int64(8)), "float32"),
    y: T.Buffer((T.int64(2), T.int64(8)), "float32"),
):
    for i, n, k in T.grid(T.int64(2), T.int64(8), T.int64(8)):
        with T.sblock("product"):
            vi, vn, vk = T.axis.remap("SSR", [i, n, k])
            with T.init():
                y[vi, vn] = T.float32(0)
            y[vi, vn] = y[vi, vn] + x[vi, vk] * weight[vn, vk]


@T.prim_func(private=True, s_tir=True)
def double(x: T.Buffer((T.int64(2), T.int64(8)), "float32"), y: T.Buffer((T.int64(2), T.int64(8)), "float32")):
    for i, n in T.grid(T.int64(2), T.int64(8)):
        with T.sblock("double"):
            vi, vn = T.axis.remap("SS", [i, n])
            y[vi, vn] = x[vi, vn] * T.float32(2)


def tensor(*shape):
    return relax.TensorType(list(shape), "float32")


def lowered(build, *shapes):
    with host_target():
        return relax.transform.DeadCodeElimination()(LowerRecurrence()(module(build, *shapes)))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_is_made_of_a_recurrence_and_its_product(reverse):
    def before(b, gates, h):
        state = b.emit(recurrent_state(h, gates))
        first = b.emit(relax.call_tir(b.add_func(product, "product"), [state, relax.const(WEIGHT)], tensor(BATCH, 8)))
        result = b.emit(recurrence(gates, h, first, cell="rnn_tanh", reverse=reverse))
        return relax.TupleGetItem(result, 0)

    def after(b, gates, h):
        layer = Recurrence("rnn_tanh", STEPS, BATCH, 8, 8, "float32", reverse)
        loop = b.add_func(prim_func(layer, [[Call(product, (STATE, None))]]), "rnn_tanh")
        types = [tensor(STEPS, BATCH, 8), tensor(BATCH, 8), tensor(BATCH, 8)]
        return relax.TupleGetItem(b.emit(relax.call_tir(loop, [gates, h, relax.const(WEIGHT)], types)), 0)

    shapes = (STEPS, BATCH, 8), (BATCH, 8)
    tvm.ir.assert_structural_equal(lowered(before, *shapes), module(after, *shapes))


def test_functions_one_after_another_are_one_product_and_what_reads_no_state_stays_outside():
    def before(b, gates, h, weight):
        double_ = b.add_func(double, "double")
        outside = b.emit(relax.call_tir(b.add_func(product, "product"), [h, weight], tensor(BATCH, 8)))
        state = b.emit(recurrent_state(h, gates))
        once = b.emit(relax.call_tir(double_, [state], tensor(BATCH, 8)))
        twice = b.emit(relax.call_tir(double_, [once], tensor(BATCH, 8)))
        return b.emit(relax.Tuple([recurrence(gates, h, twice, cell="rnn_relu"), outside]))

    mod = lowered(before, (STEPS, BATCH, 8), (BATCH, 8), (8, 8))
    calls = [b.value for b in mod["main"].body.blocks[0].bindings if isinstance(b.value, relax.Call)]
    assert [call.args[0].name_hint for call in calls if call.op.name == "relax.call_tir"] == ["product", "rnn_relu"]
    expected = prim_func(Recurrence("rnn_relu", STEPS, BATCH, 8, 8, "float32"), [[Call(double, (STATE,)), Call(double, (0,))]])
    tvm.ir.assert_structural_equal(mod["rnn_relu"], expected)
    assert {var.name_hint for var in mod.get_global_vars()} == {"main", "product", "rnn_relu"}


@T.prim_func(private=True, s_tir=True)
def half(x_: T.handle, y_: T.handle):
    m = T.int64()
    x = T.match_buffer(x_, (m, T.int64(8)), "float32")
    y = T.match_buffer(y_, (m, T.int64(8)), "float32")
    for i, n in T.grid(m, T.int64(8)):
        with T.sblock("half"):
            vi, vn = T.axis.remap("SS", [i, n])
            y[vi, vn] = x[vi, vn] * T.float32(0.5)


def test_sizes_that_are_known_at_the_call_stay_symbols():
    steps, batch = (tvm.tirx.Var(name, "int64") for name in ("steps", "batch"))

    def before(b, gates, h):
        state = b.emit(recurrent_state(h, gates))
        first = b.emit(relax.call_tir(b.add_func(half, "half"), [state], tensor(batch, 8)))
        return relax.TupleGetItem(b.emit(recurrence(gates, h, first, cell="rnn_relu", batch_first=True)), 0)

    def after(b, gates, h):
        layer = Recurrence("rnn_relu", None, None, 8, 8, "float32", False, True)
        loop = b.add_func(prim_func(layer, [[Call(half, (STATE,))]]), "rnn_relu")
        types = [tensor(batch, steps, 8), tensor(batch, 8), tensor(batch, 8)]
        return relax.TupleGetItem(b.emit(relax.call_tir(loop, [gates, h], types)), 0)

    shapes = (batch, steps, 8), (batch, 8)
    tvm.ir.assert_structural_equal(lowered(before, *shapes), module(after, *shapes))
