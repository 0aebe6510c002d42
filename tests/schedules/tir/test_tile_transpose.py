import numpy as np
import pytest
import tvm
from tvm import te, topi
from tvm.s_tir import Schedule

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.runtime.host import runs_here
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.schedules.rules.cpu_transpose import CPU_TRANSPOSE
from tvm_balanced.schedules.tir.tile_transpose import llvm_imports, split_into_tiles, transpose_tiles

TARGETS = ["cpu/x86-64-v4", "cpu/x86-64-v3", "cpu/x86-64"]


def transposition(shape, scaled, dtype="float32"):
    """y (..., j, i) = x (..., i, j), times a constant number, an input without dimensions, or nothing."""
    x, factor = te.placeholder(shape, dtype, "x"), te.placeholder((), dtype, "factor")
    last = topi.transpose(x, [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2])
    if scaled == "constant":
        last = te.compute(last.shape, lambda *i: x[(*i[:-2], i[-1], i[-2])] * te.const(3, dtype), "y")
    if scaled == "input":
        last = te.compute(last.shape, lambda *i: factor() * x[(*i[:-2], i[-1], i[-2])], "y")
    return te.create_prim_func([x, factor, last], index_dtype_override="int64")


def in_squares(func, target):
    """Return the function in transpose tiles, None if that is impossible."""
    sch = Schedule(func)
    (block,) = sch.get_child_blocks(sch.get_sblock("root"))
    name = split_into_tiles(sch, block, lanes(target))
    if name is None:
        return None
    sch.annotate(sch.get_loops(sch.get_sblock(name))[0], "pragma_import_llvm", llvm_imports(lanes(target)))
    return transpose_tiles(sch.mod["main"], {name}).with_attr("global_symbol", "main")


@pytest.mark.grid
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("scaled", ["no", "constant", "input"])
@pytest.mark.parametrize("shape", [(16, 16), (48, 32), (3, 2, 32, 80)])
def test_columns_become_rows(shape, scaled, target, rng):
    target = parse_target(target)
    if not runs_here(target):
        pytest.skip("this CPU has other registers")
    x, factor = rng.standard_normal(shape).astype(np.float32), np.array(0.3, np.float32)
    want = np.swapaxes(x, -1, -2) * {"no": np.float32(1), "constant": np.float32(3), "input": factor}[scaled]
    y = tvm.runtime.tensor(np.full(want.shape, np.nan, np.float32))
    build(in_squares(transposition(shape, scaled), target), target)["main"](*map(tvm.runtime.tensor, (x, factor)), y)
    np.testing.assert_array_equal(y.numpy(), want)


@pytest.mark.parametrize(("target", "most"), [("cpu/x86-64-v4", 128), ("cpu/x86-64-v3", 48)])
def test_it_is_shuffles(target, most):
    """As many as `transposed` takes, and no value by itself."""
    target = parse_target(target)
    side = lanes(target)
    code = build(in_squares(transposition((side, side), "no"), target), target).mod.inspect_source("asm")
    assert 0 < sum(code.count(name) for name in ("\tvunpck", "\tvshuf", "\tvperm", "\tvinsert", "\tvblend", "\tvmovlh")) <= most
    assert "\tvinsertps" not in code
    assert "tvm_balanced_opaque" not in code  # inlined


@pytest.mark.parametrize(
    ("shape", "dtype"), [((48, 40), "float32"), ((40, 48), "float32"), ((7, 16), "float32"), ((16, 16), "float16")]
)
def test_ragged_sides_and_other_dtypes_are_left(shape, dtype):
    assert in_squares(transposition(shape, "no", dtype), parse_target("cpu/x86-64-v4")) is None


def test_a_skewed_read_is_left(rng):
    """Its last index advances along one axis, and another index along both."""
    x = te.placeholder((31, 16), "float32", "x")
    func = te.create_prim_func([x, te.compute((16, 16), lambda i, j: x[i + j, i], "y")])
    assert CPU_TRANSPOSE.schedule(func, parse_target("cpu/x86-64-v4")) is None


def test_other_arithmetic_is_left():
    x = te.placeholder((16, 16), "float32", "x")
    func = te.create_prim_func([x, te.compute((16, 16), lambda i, j: te.exp(x[j, i]), "y")])
    assert in_squares(func, parse_target("cpu/x86-64-v4")) is None
