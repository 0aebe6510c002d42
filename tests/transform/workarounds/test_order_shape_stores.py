import pytest
import torch
import tvm
from tvm.script import ir as I
from tvm.script import tirx as T

from tvm_balanced.api import import_model
from tvm_balanced.runtime.host import host_target
from tvm_balanced.transform.pipeline import lower
from tvm_balanced.transform.workarounds.order_shape_stores import OrderShapeStores, place


@I.ir_module(s_tir=True)
class Before:
    @T.prim_func(s_tir=True)
    def on_shapes(shape: T.Buffer((T.int64(4),), "int64")):
        T.func_attr({"tirx.is_host_func": True})
        shape[T.int64(3)] = shape[T.int64(0)] * T.int64(2)
        shape[T.int64(2)] = shape[T.int64(1)] + shape[T.int64(0)]

    @T.prim_func(s_tir=True)
    def one_after_the_other(shape: T.Buffer((T.int64(4),), "int64")):
        T.func_attr({"tirx.is_host_func": True})
        shape[T.int64(3)] = shape[T.int64(0)] * T.int64(2)
        shape[T.int64(2)] = shape[T.int64(3)]

    @T.prim_func(s_tir=True)
    def twice(shape: T.Buffer((T.int64(4),), "int64")):
        T.func_attr({"tirx.is_host_func": True})
        shape[T.int64(3)] = shape[T.int64(0)]
        shape[T.int64(2)] = shape[T.int64(0)]
        shape[T.int64(3)] = shape[T.int64(1)]

    @T.prim_func(s_tir=True)
    def one(shape: T.Buffer((T.int64(4),), "int64")):
        T.func_attr({"tirx.is_host_func": True})
        shape[T.int64(3)] = shape[T.int64(0)]

    @T.prim_func(s_tir=True)
    def anywhere(shape: T.Buffer((T.int64(4),), "int64")):
        T.func_attr({"tirx.is_host_func": True})
        shape[T.int64(3)] = shape[shape[T.int64(0)]]
        shape[T.int64(2)] = shape[T.int64(0)]

    @T.prim_func(s_tir=True)
    def on_tensors(x: T.Buffer((T.int64(4),), "int64")):
        x[T.int64(3)] = x[T.int64(0)]
        x[T.int64(2)] = x[T.int64(1)]


@T.prim_func(s_tir=True)
def expected(shape: T.Buffer((T.int64(4),), "int64")):
    T.func_attr({"tirx.is_host_func": True})
    shape[T.int64(2)] = shape[T.int64(1)] + shape[T.int64(0)]
    shape[T.int64(3)] = shape[T.int64(0)] * T.int64(2)


def test_stores_that_do_not_wait_for_others_are_in_order():
    after = OrderShapeStores()(Before)
    tvm.ir.assert_structural_equal(after["on_shapes"].with_attr("global_symbol", "expected"), expected)


@pytest.mark.parametrize("name", ["one", "one_after_the_other", "twice", "anywhere", "on_tensors"])
def test_others_stay_as_they_are(name):
    tvm.ir.assert_structural_equal(OrderShapeStores()(Before)[name], Before[name])


def test_a_model_of_any_size_gives_its_stores_in_order(mlp):
    mod = lower(import_model(*mlp, dynamic_shapes=({0: torch.export.Dim("batch")},)).mod, host_target()).mod
    places = [place(store) for store in mod["shape_func"].body.seq]
    assert len(places) > 1
    assert places == sorted(places)
