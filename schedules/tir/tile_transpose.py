"""Transposes in registers: squares of values that are read along one axis and written along another, by shuffles.

A loop moves one value at a time, an instruction or two for each: the keys of MiniLM's attention took 9% of its time on Zen 4.
"""

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlock, Schedule
from tvm.script import tirx as T

from tvm_balanced.schedules.base.expressions import is_multiple, substitute
from tvm_balanced.schedules.tir.register_transpose import BARRIER, BARRIER_LANES, optimization_barrier, transpose_registers


def split_into_tiles(sch: Schedule, block: Any, side: int) -> str | None:
    """Cut the last two loops of a block that transposes them into squares; return the name of the block of a square.

    None, and nothing is changed, where the block does more than to copy or scale, or `side` does not divide both loops.
    Once the function is scheduled, with what it `llvm_imports`, `transpose_tiles` must follow.
    """
    *_, i, j = sch.get_loops(block)
    if _source(sch.get(block).body) is None or not all(is_multiple(sch.get(loop).extent, side) for loop in (i, j)):
        return None
    (row, inner_row), (column, inner_column) = (sch.split(loop, [None, side]) for loop in (i, j))
    sch.reorder(column, row, inner_row, inner_column)  # rows of the input are read to their end
    return str(sch.get(sch.blockize(inner_row)).name_hint)


def llvm_imports(side: int) -> str:
    """Return what a function with squares must import, LLVM's IR."""
    return BARRIER if side == BARRIER_LANES else ""


def transpose_tiles(func: tirx.PrimFunc, names: set[str]) -> tirx.PrimFunc:
    """Return a scheduled function in which the blocks of squares of these names are shuffles."""

    def replace(block: SBlock) -> SBlock:
        if block.name_hint not in names:
            return block
        fields = {name: getattr(block, name) for name in ("iter_vars", "reads", "writes", "name_hint")}
        return SBlock(**fields, body=_shuffles(block.body))

    return func.with_body(tvm_ffi.structural_map(func.body, (SBlock, replace)))


def _source(store: Any) -> tuple[TensorLoad, Any] | None:
    """Return what a block copies, and what it multiplies it by or None; None where it does anything else or not in float32."""
    if not isinstance(store, tirx.BufferStore) or store.buffer.dtype != "float32":
        return None
    if isinstance(store.value, TensorLoad):
        return store.value, None
    if isinstance(store.value, tirx.Mul):
        for load, factor in ((store.value.a, store.value.b), (store.value.b, store.value.a)):
            one = isinstance(factor, tirx.FloatImm) or (isinstance(factor, TensorLoad) and not len(factor.indices))
            if isinstance(load, TensorLoad) and one:
                return load, factor
    return None


def _shuffles(loops: tirx.For) -> Any:
    """Return the body of a square: its rows are read as vectors, transposed, and stored."""
    i, j, side, realize = loops.loop_var, loops.body.loop_var, int(loops.extent), loops.body.body
    axes = list(zip([axis.var for axis in realize.block.iter_vars], realize.iter_values, strict=True))

    def along(indices: Any, row: int, column: int) -> list[Any]:
        """Return the indices of a vector of the square that begins at a place of it."""
        places = [(i, tirx.IntImm(i.ty.dtype, row)), (j, tirx.IntImm(j.ty.dtype, column))]
        *others, last = (substitute(substitute(index, axes), places) for index in indices)
        return [*others, T.ramp(last, 1, side)]

    copied, store = _source(realize.block.body), realize.block.body
    assert copied is not None  # or `split_into_tiles` would not have cut it
    load, factor = copied
    rows = [tirx.BufferLoad(load.source, along(load.indices, 0, column)) for column in range(side)]
    columns = transpose_registers(rows, optimization_barrier if side == BARRIER_LANES else lambda vector: vector)
    scaled = [column if factor is None else column * T.broadcast(factor, side) for column in columns]
    return tirx.SeqStmt([tirx.BufferStore(store.buffer, value, along(store.indices, row, 0)) for row, value in enumerate(scaled)])
