"""The attention rule against float64 on the available instruction sets, and the place of its intermediate results."""

import re

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from support.relax_modules import module
from support.sample import examples
from tvm import relax, tirx

from tvm_balanced.runtime.host import host_target, runs_here
from tvm_balanced.schedules import RULES
from tvm_balanced.schedules.base.target_info import lanes
from tvm_balanced.schedules.rules.cpu_attention import CPU_ATTENTION, is_supported
from tvm_balanced.transform.approximate_math import ApproximateMath
from tvm_balanced.transform.fuse_attention import FuseAttention

OP = relax.op
AVX2 = tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "haswell", "num-cores": 1})
SSE = tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "num-cores": 1})
TARGETS = {"host": host_target(), "avx2": AVX2, "sse": SSE}


def attention(batch, heads, rows, tokens, width, columns, masked=True, target=None):
    """Return the unscheduled function of q, k, v (batch, tokens, heads, width) and a mask (batch,
    1, rows, tokens).
    """

    def build(b, q, k, v, *mask):
        q, v = (b.emit(OP.permute_dims(x, (0, 2, 1, 3))) for x in (q, v))
        scores = b.emit(OP.matmul(q, b.emit(OP.permute_dims(k, (0, 2, 3, 1)))))
        scores = b.emit(OP.add(b.emit(OP.multiply(scores, relax.const(width**-0.5))), *mask)) if mask else scores
        product = b.emit(OP.matmul(b.emit(OP.nn.softmax(scores, -1)), v))
        return OP.permute_dims(product, (0, 2, 1, 3))

    shapes = [(batch, rows, heads, width), (batch, tokens, heads, width), (batch, tokens, heads, columns)]
    shapes += [(batch, 1, rows, tokens)] if masked else []
    with target or host_target():
        passes = [FuseAttention(), relax.transform.LegalizeOps(), relax.transform.FuseTIR(), ApproximateMath()]
        mod = tvm.transform.Sequential(passes)(module(build, *shapes))
    (func,) = [func for func in mod.functions.values() if isinstance(func, tirx.PrimFunc)]
    return func, shapes


def expected(q, k, v, mask=None):
    q, k, v = (x.astype(np.float64).transpose(0, 2, 1, 3) for x in (q, k, v))
    scores = q @ k.transpose(0, 1, 3, 2)
    scores = scores if mask is None else scores * q.shape[-1] ** -0.5 + mask
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3)


def check(shape, masked, target, rng):
    func, shapes = attention(*shape, masked, target)
    scheduled = CPU_ATTENTION.schedule(func, target)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    want = expected(*arrays)
    y = tvm.runtime.tensor(np.full(want.shape, np.nan, np.float32))
    main = tvm.compile(scheduled.with_attr("global_symbol", "main"), target)["main"]
    tensors = dict(zip("qkvm", map(tvm.runtime.tensor, arrays), strict=False))
    main(*arguments_of(func, tensors), y)
    np.testing.assert_allclose(y.numpy(), want, rtol=2e-5, atol=1e-5)


def arguments_of(func, tensors):
    """Return the inputs in the order of the function's parameters, which is the order of their use."""
    names = dict(zip(("x0", "x1", "x2", "x3"), "qkvm", strict=True))
    scale = tvm.runtime.tensor(np.float32(1) * np.asarray(tensors["q"].shape[-1] ** -0.5, np.float32))
    return [tensors[names[p.name]] if p.name in names else scale for p in func.params[:-1]]


@pytest.mark.grid
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "plain"])
@pytest.mark.parametrize("target", TARGETS)
def test_on_each_instruction_set(target, masked, rng):
    if not runs_here(TARGETS[target]):
        pytest.skip(f"this CPU has no {target}")
    check((2, 3, 64, 96, 32, 48), masked, TARGETS[target], rng)


@pytest.mark.slow
@settings(max_examples=examples(16))
@given(st.data())
def test_random_shapes(data):
    width = lanes(host_target())
    heads, batch = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    rows = data.draw(st.integers(1, 90).filter(lambda n: is_supported(n, 2 * width, width, host_target())))
    tokens = width * data.draw(st.integers(2, 9))
    columns = width * data.draw(st.integers(1, 5))
    shape = (batch, heads, rows, tokens, data.draw(st.integers(2, 40)), columns)
    check(shape, data.draw(st.booleans()), host_target(), np.random.default_rng(0))


def test_it_is_the_rule_for_attention_and_for_nothing_else():
    func, _ = attention(1, 2, 16, 64, 32, 32)
    assert RULES[0] is CPU_ATTENTION  # before cpu_rowwise, which would compute it row by row
    assert CPU_ATTENTION.schedule(func, host_target()) is not None


def test_scores_stay_with_the_rows_that_are_computed():
    """A task allocates its eight rows of scores, queries, keys and values, but never all scores."""
    rows, tokens, width = 256, 128, 64
    func, _ = attention(2, 3, rows, tokens, width, width)
    scheduled = CPU_ATTENTION.schedule(func, host_target())
    place = tvm.s_tir.transform.PlanAndUpdateBufferAllocationLocation(), tvm.s_tir.transform.ConvertBlocksToOpaque()
    passes = [tvm.s_tir.transform.LowerInitBlock(), *place, tvm.s_tir.transform.CompactBufferAllocation()]
    lowered = tvm.transform.Sequential(passes)(tvm.IRModule.from_expr(scheduled.with_attr("global_symbol", "main")))
    script = lowered.script().replace("T.int64(", "").replace("),", ",")
    shapes = re.findall(r"sblock_alloc_buffer\(\((.*?)\)(?:, |\))", script)
    sizes = [np.prod([int(n) for n in re.findall(r"\d+", shape)]) for shape in shapes]
    assert sizes
    assert max(sizes) <= max(rows, tokens) * width < rows * tokens


@pytest.mark.parametrize(
    ("rows", "tokens", "columns", "fits"),
    [
        (128, 128, 32, True),
        (1, 128, 32, False),
        (7, 128, 32, True),
        (11, 128, 32, False),
        (2 * 607, 128, 32, False),
        (128, 100, 32, False),
        (128, 128, 20, False),
    ],
)
def test_suits(rows, tokens, columns, fits):
    assert is_supported(rows, tokens, columns, host_target()) is fits
    assert not is_supported(tirx.Var("n", "int64"), tokens, columns, host_target())
