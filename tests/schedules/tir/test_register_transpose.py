import numpy as np
import pytest
import tvm
from tvm.script import tirx as T

from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.schedules.tir.register_transpose import transpose_registers


def transpose_of(side):
    def store(y, rows):
        for i, row in enumerate(transpose_registers(rows)):
            T.buffer_store(y, row, [i, T.ramp(0, 1, side)])

    @T.prim_func(s_tir=True)
    def main(x_: T.handle, y_: T.handle) -> None:
        T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
        x = T.match_buffer(x_, (side, side), "float32")
        y = T.match_buffer(y_, (side, side), "float32")
        store(y, [x[i, T.ramp(0, 1, side)] for i in range(side)])

    return main


@pytest.mark.grid
@pytest.mark.parametrize("target", ["cpu", "cpu/x86-64-v3", "cpu/x86-64"])
@pytest.mark.parametrize("side", [2, 4, 8, 16])
def test_rows_become_columns(side, target, rng):
    x = rng.standard_normal((side, side)).astype(np.float32)
    y = tvm.runtime.tensor(np.zeros_like(x))
    tvm.compile(transpose_of(side), parse_target(target))["main"](tvm.runtime.tensor(x), y)
    np.testing.assert_array_equal(y.numpy(), x.T)


def test_one_value_is_its_own_transpose():
    assert transpose_registers([1.0]) == [1.0]


@pytest.mark.parametrize(("side", "most"), [(8, 48), (16, 128)])
def test_it_is_shuffles(side, most):
    """Fewer than one for each value: 24 and 64 would do, LLVM 22 takes 36 and 124 with those that load halves."""
    target = "cpu/x86-64-v3" if side == 8 else "cpu/x86-64-v4"
    assembly = tvm.compile(transpose_of(side), parse_target(target)).mod.inspect_source("asm")
    shuffles = sum(assembly.count(name) for name in ("\tvunpck", "\tvshuf", "\tvperm", "\tvinsert", "\tvblend", "\tvmovlh"))
    assert 0 < shuffles <= most
    assert "vgather" not in assembly
