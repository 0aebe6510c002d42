import numpy as np
import pytest
import tvm
from tvm.script import tirx as T

from tvm_balanced.errors import EnvironmentFaultError
from tvm_balanced.testing import opencl


def add_one(m, threads=(32, 32)):
    m = tvm.tirx.IntImm("int64", m) if m else tvm.tirx.Var("m", "int64")

    @T.prim_func(private=True, s_tir=True)
    def main(x_: T.handle, y_: T.handle):
        T.func_attr({"tirx.noalias": True})
        x = T.match_buffer(x_, (m, T.int64(32)), "float32")
        y = T.match_buffer(y_, (m, T.int64(32)), "float32")
        held = T.sblock_alloc_buffer((m, T.int64(32)), "float32", scope="shared")
        for i in T.thread_binding(m, thread="blockIdx.x"):
            for j in T.thread_binding(T.int64(threads[0]), thread="threadIdx.x"):
                with T.sblock("hold"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    held[vi, vj] = x[vi, T.int64(31) - vj]
            for j in T.thread_binding(T.int64(threads[1]), thread="threadIdx.x"):
                with T.sblock("add"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    y[vi, vj] = held[vi, vj] + T.float32(1)

    return main


@pytest.mark.pocl
@pytest.mark.parametrize("symbolic", [False, True])
def test_runs_with_barriers(symbolic, rng):
    x = rng.standard_normal((5, 32)).astype(np.float32)
    y = np.zeros_like(x)
    assert (opencl.run(add_one(0 if symbolic else 5), [x, y]) == x[:, ::-1] + 1).all()
    assert (y == 0).all()


@pytest.mark.pocl
def test_a_program_is_compiled_once_for_each_size(monkeypatch, rng):
    made, source = [], opencl.source_of
    monkeypatch.setattr(opencl, "source_of", lambda func, symbols: made.append(dict(symbols)) or source(func, symbols))
    program = opencl.Program(add_one(0))
    for m in (5, 3, 5):
        x = rng.standard_normal((m, 32)).astype(np.float32)
        assert (program([x, np.zeros_like(x)]) == x[:, ::-1] + 1).all()
    assert made == [{"m": 5}, {"m": 3}]


def test_launch_refuses_loops_of_one_axis_that_differ():
    assert opencl.launch(add_one(3)) == ((3, 1, 1), (32, 1, 1))
    with pytest.raises(ValueError, match="differ"):
        opencl.launch(add_one(3, (32, 16)))


def test_without_a_platform_one_sentence():
    with pytest.raises(EnvironmentFaultError, match="pocl-opencl-icd"):
        opencl.run(add_one(1), [np.zeros((1, 32), np.float32)] * 2, platform="no such platform")
