import numpy as np
import pytest
import tvm
from support import reference
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.compiler.build import build
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.tensors import view
from tvm_balanced.schedules.tir import prefetch, prefetch_task
from tvm_balanced.schedules.tir.loops import extent
from tvm_balanced.schedules.tir.prefetch_task import Copied, prefetch_next_task

ROWS, TASKS, COLUMNS, TURNS = 32, 8, 48, 5  # the turns do not divide the rows


@T.prim_func(s_tir=True)
def by_rows(x: T.Buffer((ROWS, TASKS, COLUMNS), "float32"), y: T.Buffer((TASKS, TURNS), "float32")):
    copy = T.sblock_alloc_buffer((TASKS, ROWS, COLUMNS), "float32")
    for t in T.parallel(TASKS):
        for h, i, j in T.grid(1, ROWS, COLUMNS):
            with T.sblock("copy"):
                vt = T.axis.spatial(TASKS, t + h)
                vi, vj = T.axis.remap("SS", [i, j])
                copy[vt, vi, vj] = x[vi, vt, vj] * T.float32(2)
        for u in range(TURNS):
            with T.sblock("read"):
                vt, vu = T.axis.remap("SS", [t, u])
                y[vt, vu] = copy[vt, vu, vu]


@T.prim_func(s_tir=True)
def by_columns(x: T.Buffer((ROWS, TASKS, COLUMNS), "float32"), y: T.Buffer((TASKS, TURNS), "float32")):
    copy = T.sblock_alloc_buffer((TASKS, COLUMNS, ROWS), "float32")
    for t in T.parallel(TASKS):
        for j, i in T.grid(COLUMNS, ROWS):
            with T.sblock("copy"):
                vt, vj, vi = T.axis.remap("SSS", [t, j, i])
                copy[vt, vj, vi] = x[vi, vt, vj] * T.float32(2)
        for u in range(TURNS):
            with T.sblock("read"):
                vt, vu = T.axis.remap("SS", [t, u])
                y[vt, vu] = copy[vt, vu, vu]


def run(func, transposed):
    """Prefetch what `func` copies; return x and y after running it on zeros."""
    sch = Schedule(func)
    copied, turn = Copied.of(sch, sch.get_sblock("copy"), transposed), sch.get_loops(sch.get_sblock("read"))[1]
    prefetch.import_prefetch(sch, "read", host_target())
    func = prefetch_next_task(sch.mod["main"], sch.get(turn).loop_var, extent(sch, turn), [copied])
    whole = tvm.runtime.tensor(np.zeros((2 * ROWS, TASKS, COLUMNS), np.float32))
    y = tvm.runtime.tensor(np.full((TASKS, TURNS), np.nan, np.float32))
    build(func.with_attr("global_symbol", "main"), host_target())["main"](whole._create_view((ROWS, TASKS, COLUMNS)), y)
    return view(whole), view(y)


@pytest.mark.parametrize(("func", "transposed"), [(by_rows, False), (by_columns, True)])
def test_each_line_of_later_tasks_is_fetched_once(func, transposed, monkeypatch):
    monkeypatch.setattr(prefetch, "INTO_SECOND_LEVEL", reference.counter("tvm_balanced_fetch"))
    monkeypatch.setattr(prefetch, "NOWHERE", reference.counter("tvm_balanced_fetch"))
    monkeypatch.setattr(prefetch_task, "FAR_BYTES", 0)
    x, y = run(func, transposed)
    assert (x[:ROWS, 1:].view(np.int32)[..., ::16] == 1).all()
    assert (x[0, 0] == 0).all()  # the first task's; its other rows lie behind those of the last task
    assert (x[:ROWS].view(np.int32)[..., 1::16] == 0).all()
    assert np.abs(y).max() < 1e-30  # every entry is written


def test_what_is_near_is_not_fetched(monkeypatch):
    monkeypatch.setattr(prefetch, "INTO_SECOND_LEVEL", reference.counter("tvm_balanced_fetch"))
    x, _ = run(by_rows, False)
    assert (x == 0).all()


def test_nothing_is_fetched_in_an_unknown_number_of_turns_or_too_many_lines_at_once(monkeypatch):
    @T.prim_func(s_tir=True)
    def symbolic(x: T.Buffer((ROWS, TASKS, COLUMNS), "float32"), y_: T.handle):
        turns = T.int64()
        y = T.match_buffer(y_, (TASKS, turns), "float32")
        copy = T.sblock_alloc_buffer((TASKS, ROWS, COLUMNS), "float32")
        for t in T.parallel(TASKS):
            for i, j in T.grid(ROWS, COLUMNS):
                with T.sblock("copy"):
                    vt, vi, vj = T.axis.remap("SSS", [t, i, j])
                    copy[vt, vi, vj] = x[vi, vt, vj]
            for u in range(turns):
                with T.sblock("read"):
                    vt, vu = T.axis.remap("SS", [t, u])
                    y[vt, vu] = copy[vt, 0, 0]

    monkeypatch.setattr(prefetch_task, "FAR_BYTES", 0)
    for func, most in ((symbolic, 128), (by_rows, 20)):  # 7 rows of 3 lines a turn
        monkeypatch.setattr(prefetch_task, "MOST_LINES", most)
        sch = Schedule(func)
        copied, turn = Copied.of(sch, sch.get_sblock("copy"), False), sch.get_loops(sch.get_sblock("read"))[1]
        scheduled = sch.mod["main"]
        assert prefetch_next_task(scheduled, sch.get(turn).loop_var, extent(sch, turn), [copied]).same_as(scheduled)


def test_what_reads_several_elements_is_not_a_copy():
    @T.prim_func(s_tir=True)
    def func(x: T.Buffer((8, 16), "float32"), y: T.Buffer((8, 16), "float32")):
        for _t, i, j in T.grid(1, 8, 16):
            with T.sblock("copy"):
                vi, vj = T.axis.remap("SS", [i, j])
                y[vi, vj] = x[vi, vj] + x[vi, 15 - vj]

    sch = Schedule(func)
    assert Copied.of(sch, sch.get_sblock("copy"), False) is None
