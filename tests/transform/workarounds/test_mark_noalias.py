import pytest
import torch
import tvm
from torch import nn
from tvm.script import ir as I
from tvm.script import tirx as T

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.runtime.host import host_target
from tvm_balanced.transform.pipeline import lower
from tvm_balanced.transform.workarounds.mark_noalias import NOALIAS, MarkNoalias

BATCH = ({0: torch.export.Dim("batch")},)


@I.ir_module(s_tir=True)
class Before:
    @T.prim_func(s_tir=True)
    def on_shapes(shape: T.Buffer((T.int64(2),), "int64")):
        T.func_attr({"tirx.is_host_func": True})
        shape[T.int64(1)] = shape[T.int64(0)] * T.int64(2)

    @T.prim_func(s_tir=True)
    def on_two(a: T.Buffer((T.int64(2),), "int64"), b: T.Buffer((T.int64(2),), "int64")):
        T.func_attr({"tirx.is_host_func": True})
        b[T.int64(1)] = a[T.int64(0)]

    @T.prim_func(s_tir=True)
    def on_tensors(x: T.Buffer((T.int64(2),), "float32")):
        x[T.int64(1)] = x[T.int64(0)]


@I.ir_module(s_tir=True)
class Expected:
    @T.prim_func(s_tir=True)
    def on_shapes(shape: T.Buffer((T.int64(2),), "int64")):
        T.func_attr({"tirx.is_host_func": True, "tirx.noalias": True})
        shape[T.int64(1)] = shape[T.int64(0)] * T.int64(2)

    @T.prim_func(s_tir=True)
    def on_two(a: T.Buffer((T.int64(2),), "int64"), b: T.Buffer((T.int64(2),), "int64")):
        T.func_attr({"tirx.is_host_func": True})
        b[T.int64(1)] = a[T.int64(0)]

    @T.prim_func(s_tir=True)
    def on_tensors(x: T.Buffer((T.int64(2),), "float32")):
        x[T.int64(1)] = x[T.int64(0)]


def test_only_functions_on_shapes_are_marked():
    tvm.ir.assert_structural_equal(MarkNoalias()(Before), Expected)


def test_a_model_has_such_functions(mlp):
    mod = lower(import_model(*mlp, dynamic_shapes=BATCH).mod, host_target()).mod
    functions = {var.name_hint: func for var, func in mod.functions_items() if isinstance(func, tvm.tirx.PrimFunc)}
    assert "shape_func" in functions
    assert all(func.attrs[NOALIAS] for func in functions.values())


def parameters(source, name):
    """What LLVM is told of a function's parameters."""
    (line,) = [line for line in source.splitlines() if line.startswith("define") and f"__tvm_ffi_{name}" in line]
    return line


@I.ir_module(s_tir=True)
class TwoFunctions:
    @T.prim_func(s_tir=True)
    def kernel(x: T.Buffer((32,), "float32"), y: T.Buffer((32,), "float32")):
        T.func_attr({"tirx.noalias": True})
        for i in range(32):
            y[i] = x[i]

    @T.prim_func(s_tir=True)
    def shapes(shape: T.Buffer((2,), "int64")):
        shape[1] = shape[0]


def test_plain_tvm_loses_the_attribute_of_every_function():
    both = TwoFunctions
    alone = tvm.IRModule({"kernel": both["kernel"]})
    source, alone = (tvm.compile(mod, host_target()).mod.inspect_source("ll") for mod in (both, alone))
    assert "noalias" in parameters(alone, "kernel")
    assert "noalias" not in parameters(source, "kernel"), "TVM keeps the attribute of each function: MarkNoalias may go"


@pytest.mark.slow
def test_kernels_of_a_symbolic_m_keep_their_sums_in_registers():
    """As where M is known, whose buffers LLVM knows not to overlap; what it says of a function shows in its parameters."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 64)
    for dynamic in (None, BATCH):
        module = tb.compile(layer, (torch.randn(8, 64),), dynamic_shapes=dynamic, kernels={"*": "cpu_dense"})
        source = module.executable.mod.imports[0].inspect_source("ll")
        assert "noalias" in parameters(source, "cpu_dense")
