import ml_dtypes
import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import s_tir, tirx

from tvm_balanced.compiler.build import build
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.tir import recurrent_cells
from tvm_balanced.testing import opencl

ROWS = 3


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def exact(kind, gates, h, c):
    """(h, c) after a step in float64; `gates` are (x, p), each with a column of `units` for every gate."""
    x, p = (np.split(side, recurrent_cells.GATES[kind], axis=1) for side in gates)
    if kind == "lstm":
        i, f, g, o = (a + b for a, b in zip(x, p, strict=True))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    if kind == "gru":
        n = np.tanh(x[2] + sigmoid(x[0] + p[0]) * p[2])
        return n + sigmoid(x[1] + p[1]) * (h - n), c
    return (np.tanh if kind == "rnn_tanh" else lambda v: np.maximum(v, 0))(x[0] + p[0]), c


def function(kind, units, dtype, state, gpu=False):
    """A cell as a function of (x, p, h, c)."""
    gates = recurrent_cells.GATES[kind] * units
    shapes = {"x": (gates, dtype), "p": (gates, dtype), "h": (units, state), "c": (units, state)}
    params = [tirx.decl_buffer((int64(ROWS), int64(n)), of, name) for name, (n, of) in shapes.items()]
    x, p, *states = params
    body = recurrent_cells.cell(kind, x, p, states[: 1 + (kind == "lstm")], lambda row, columns: (row, columns), gpu)
    root = s_tir.SBlock([], [], [], "root", body)
    func = tirx.PrimFunc(params, s_tir.SBlockRealize([], tirx.IntImm("bool", 1), root))
    return func.with_attrs({"s_tir": True, "tirx.noalias": True, "global_symbol": "main"})


def operands(kind, units, dtype, state, rng):
    gates = recurrent_cells.GATES[kind] * units
    return [
        rng.standard_normal((ROWS, n)).astype(of) for n, of in ((gates, dtype), (gates, dtype), (units, state), (units, state))
    ]


@pytest.mark.grid
@pytest.mark.parametrize("kind", recurrent_cells.GATES)
@pytest.mark.parametrize(
    ("dtype", "units", "error"),
    [("float32", 48, 2e-6), ("float32", 37, 2e-6), ("float64", 5, 1e-15), ("float16", 35, 2e-6), (ml_dtypes.bfloat16, 17, 2e-6)],
)
def test_a_step_is_that_of_the_formula(kind, dtype, units, error, rng):
    state = "float64" if dtype == "float64" else "float32"
    arrays = operands(kind, units, dtype, state, rng)
    x, p, h, c = (array.astype("float64") for array in arrays)
    given = [tvm.runtime.tensor(array) for array in arrays]
    build(function(kind, units, str(np.dtype(dtype)), state), host_target())(*given)
    want_h, want_c = exact(kind, (x, p), h, c)
    np.testing.assert_allclose(given[2].numpy(), want_h, atol=error)
    np.testing.assert_allclose(given[3].numpy(), want_c, atol=error)


@pytest.mark.parametrize(("dtype", "units"), [("float16", 19), (ml_dtypes.bfloat16, 35), ("float32", 16)])
def test_a_copy_rounds_to_the_dtype_of_its_target(dtype, units, rng):
    name = str(np.dtype(dtype))
    source, target = (tirx.decl_buffer((int64(ROWS), int64(units)), of, of) for of in ("float32", name))
    root = s_tir.SBlock([], [], [], "root", recurrent_cells.copy(source, target, False))
    func = tirx.PrimFunc([source, target], s_tir.SBlockRealize([], tirx.IntImm("bool", 1), root))
    x = rng.standard_normal((ROWS, units)).astype("float32")
    y = tvm.runtime.tensor(np.zeros((ROWS, units), dtype))
    build(func.with_attrs({"s_tir": True, "global_symbol": "main"}), host_target())(tvm.runtime.tensor(x), y)
    np.testing.assert_array_equal(y.numpy(), x.astype(dtype))


def test_rows_are_divided_among_threads_if_there_are_many():
    def kinds(units):
        found = []
        tvm_ffi.structural_walk(function("lstm", units, "float32", "float32").body, (tirx.For, found.append))
        return {loop.kind for loop in found}

    assert kinds(64) == {tirx.ForKind.SERIAL}
    assert kinds(1 << 14) == {tirx.ForKind.SERIAL, tirx.ForKind.PARALLEL}


@pytest.mark.pocl
@pytest.mark.parametrize("kind", ["gru", "rnn_relu"])
def test_a_gpu_computes_the_same(kind, rng):
    arrays = operands(kind, 100, "float32", "float32", rng)
    x, p, h, c = (array.astype("float64") for array in arrays)
    func = function(kind, 100, "float32", "float32", gpu=True)
    *read, _ = func.params
    func = tirx.PrimFunc(read, func.body, func.ret_type, func.attrs)
    np.testing.assert_allclose(opencl.run(func, arrays[:3]), exact(kind, (x, p), h, c)[0], atol=2e-6)
