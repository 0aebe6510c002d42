"""Each task of an attention prefetches what the next task copies at its start.

A head of an attention is a line or two of each token. No hardware prefetch follows these, and a
task can do nothing until its queries, keys and values are loaded. Eight sentences of MiniLM on one
Zen 4 thread: 1.1x.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlockRealize, Schedule

from tvm_balanced.schedules.base.expressions import substitute
from tvm_balanced.schedules.tir.loops import extent
from tvm_balanced.schedules.tir.prefetch import prefetch_line
from tvm_balanced.schedules.tir.prefetch_rows import FAR_BYTES, LINE

FLOATS = LINE // 4  # floats of a cache line
# The data that a task copies must stay in the second-level cache together with the data of the next
# task. Prefetching more lines per iteration would take longer than the iteration computes.
MOST_BYTES, MOST_LINES = 256 << 10, 128


@dataclass(frozen=True)
class Copied:
    """What a block copies in a task: `rows` rows of `columns` contiguous floats.

    Parameters
    ----------
    load : TensorLoad
        An element, as a function of the loop variables.
    task, row, column : Var
        These loop variables.
    rows, columns : int
    """

    load: TensorLoad
    task: tirx.Var
    row: tirx.Var
    column: tirx.Var
    rows: int
    columns: int

    @classmethod
    def of(cls, sch: Schedule, block: Any, transposed: bool) -> "Copied | None":
        """Return what `block` copies along its last two loops; None if it has other loops or their
        trip counts are unknown.

        `transposed` says that the input is contiguous along the second-to-last loop.
        """
        task, *others, i, j = sch.get_loops(block)
        row, column = (j, i) if transposed else (i, j)
        load, rows, columns = _element(sch, block), extent(sch, row), extent(sch, column)
        if load is None or rows is None or columns is None or any(extent(sch, loop) != 1 for loop in others):
            return None
        once = [(sch.get(loop).loop_var, tirx.IntImm("int64", 0)) for loop in others]
        load = tirx.BufferLoad(load.source, [substitute(index, once) for index in load.indices])
        task_var, row_var, column_var = (sch.get(loop).loop_var for loop in (task, row, column))
        return cls(load, task_var, row_var, column_var, rows, columns)

    @property
    def nbytes(self) -> float:
        """Bytes that all tasks copy from; infinite if unknown."""
        shape = self.load.source.shape
        return 4 * math.prod(map(int, shape)) if all(isinstance(size, (int, tirx.IntImm)) for size in shape) else math.inf

    def lines(self, turns: int) -> int:
        """Return how many lines each of `turns` iterations prefetches."""
        return -(-self.rows // turns) * -(-self.columns // FLOATS)

    def prefetches(self, turn: tirx.Var, turns: int) -> list[tirx.Stmt]:
        """Return statements that prefetch an equal share of the next task's data in one of `turns` iterations."""
        share = -(-self.rows // turns)
        places = [(turn * share + row, column) for row in range(share) for column in range(0, self.columns, FLOATS)]
        return [tirx.Evaluate(prefetch_line(self._in_next(*place))) for place in places]

    def _in_next(self, row: Any, column: int) -> TensorLoad:
        """Return an element that the next task copies."""
        places = [(self.task, self.task + 1), (self.row, row), (self.column, tirx.IntImm("int64", column))]
        return tirx.BufferLoad(self.load.source, [substitute(index, places) for index in self.load.indices])


def prefetch_next_task(func: tirx.PrimFunc, loop: tirx.Var, turns: int | None, copied: Sequence[Copied]) -> tirx.PrimFunc:
    """Return a scheduled function in which each of the `turns` iterations of `loop` prefetches a
    share of the next task's data.

    The function is unchanged if the data is in the caches, is more than the iterations can
    prefetch, or the number of iterations is unknown (None). The schedule must have called
    `import_prefetch`.
    """
    if turns is None or sum(copy.nbytes for copy in copied) < FAR_BYTES:
        return func
    if sum(4 * copy.rows * copy.columns for copy in copied) > MOST_BYTES:
        return func
    if sum(copy.lines(turns) for copy in copied) > MOST_LINES:
        return func

    fetches = [statement for copy in copied for statement in copy.prefetches(loop, turns)]

    def replace(found: tirx.For) -> tirx.For:
        if not found.loop_var.same_as(loop):
            return found
        body = tirx.SeqStmt([*fetches, found.body])
        return tirx.For(found.loop_var, found.min, found.extent, found.kind, body, annotations=found.annotations)

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, replace)))


def _element(sch: Schedule, block: Any) -> TensorLoad | None:
    """Return the element that a block copies, as a function of its loop variables; None if it reads several."""
    realizes: list[SBlockRealize] = []
    loads: list[TensorLoad] = []
    tvm_ffi.structural_walk(sch.mod["main"].body, (SBlockRealize, realizes.append))
    (realize,) = (found for found in realizes if found.block.name_hint == sch.get(block).name_hint)
    tvm_ffi.structural_walk(realize.block.body, (TensorLoad, loads.append))
    elements = [load for load in loads if len(load.indices)]  # a load without an index is a scalar factor
    if len(elements) != 1:
        return None
    places = list(zip([axis.var for axis in realize.block.iter_vars], realize.iter_values, strict=True))
    return tirx.BufferLoad(elements[0].source, [substitute(index, places) for index in elements[0].indices])
