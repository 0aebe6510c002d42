"""Transpose square tiles in registers: values are read along one axis, shuffled, and written along another.

A loop moves one value at a time with an instruction or two. For the keys of MiniLM's attention that
took 9% of the attention's time on Zen 4.
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
    """Split the last two loops of a transposing block into square tiles. Return the name of a tile's block.

    Return None and change nothing if the block does more than copy or scale, or if `side` does not
    divide both loops. After scheduling, the function must import `llvm_imports` and go through
    `transpose_tiles`.
    """
    *_, i, j = sch.get_loops(block)
    if _source(sch.get(block).body) is None or not all(is_multiple(sch.get(loop).extent, side) for loop in (i, j)):
        return None
    (row, inner_row), (column, inner_column) = (sch.split(loop, [None, side]) for loop in (i, j))
    sch.reorder(column, row, inner_row, inner_column)  # each row of the input is read to its end
    return str(sch.get(sch.blockize(inner_row)).name_hint)


def llvm_imports(side: int) -> str:
    """Return the LLVM IR that a function with such tiles must import."""
    return BARRIER if side == BARRIER_LANES else ""


def transpose_tiles(func: tirx.PrimFunc, names: set[str]) -> tirx.PrimFunc:
    """Return a scheduled function in which shuffles replace the tile blocks of these names."""

    def replace(block: SBlock) -> SBlock:
        if block.name_hint not in names:
            return block
        fields = {name: getattr(block, name) for name in ("iter_vars", "reads", "writes", "name_hint")}
        return SBlock(**fields, body=_shuffles(block.body))

    return func.with_body(tvm_ffi.structural_map(func.body, (SBlock, replace)))


def _source(store: Any) -> tuple[TensorLoad, Any] | None:
    """Return what a block copies and the factor it multiplies by (or None); None if it does
    anything else or not in float32.
    """
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
    """Return the body of a tile: its rows are read as vectors, transposed, and stored."""
    i, j, side, realize = loops.loop_var, loops.body.loop_var, int(loops.extent), loops.body.body
    axes = list(zip([axis.var for axis in realize.block.iter_vars], realize.iter_values, strict=True))

    def along(indices: Any, row: int, column: int) -> list[Any]:
        """Return the indices of a vector of the tile, starting at the given row and column."""
        places = [(i, tirx.IntImm(i.ty.dtype, row)), (j, tirx.IntImm(j.ty.dtype, column))]
        *others, last = (substitute(substitute(index, axes), places) for index in indices)
        return [*others, T.ramp(last, 1, side)]

    copied, store = _source(realize.block.body), realize.block.body
    assert copied is not None  # else `split_into_tiles` would not have split it
    load, factor = copied
    rows = [tirx.BufferLoad(load.source, along(load.indices, 0, column)) for column in range(side)]
    columns = transpose_registers(rows, optimization_barrier if side == BARRIER_LANES else lambda vector: vector)
    scaled = [column if factor is None else column * T.broadcast(factor, side) for column in columns]
    return tirx.SeqStmt([tirx.BufferStore(store.buffer, value, along(store.indices, row, 0)) for row, value in enumerate(scaled)])
