"""PropagateNaN: maxima, minima and `!=` that take NaN for a number --> as torch and IEEE 754-2019 have them.

TVM 0.27 compiles `T.max(a, b)` to `a > b ? a : b`, which is b where a is NaN, begins a maximum at the smallest finite number, and
has NaN differ from nothing:

    @T.prim_func(s_tir=True)
    def main(x: T.Buffer((2,), "float32"), y: T.Buffer((1,), "float32")):
        y[0] = T.max(x[0], x[1])  # 1 for [NaN, 1]

For a GPU it is a call of `max`, which is a number wherever one of both is.

Issue: not reported yet. May go when `test_plain_tvm_loses_nan` and `test_plain_tvm_loses_nan_on_a_gpu` fail.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlock, SBlockRealize
from tvm.script import tirx as T

from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.expressions import variables
from tvm_balanced.transform.attend_few_queries import NAME as FEW_QUERIES
from tvm_balanced.transform.fuse_attention import NAME as ATTENTION
from tvm_balanced.transform.prim_funcs import rewrite_prim_funcs, rounds_to_bfloat16

Extremum: TypeAlias = tirx.Max | tirx.Min


@tvm.transform.module_pass(opt_level=0, name="PropagateNaN")
class PropagateNaN:
    """Let maxima and minima of floats in TVM's own operators begin at infinity and be NaN if an operand is; NaN differs from all.

    rewrite: `T.max(a, b)` --> `T.Select(a <= inf, T.max(a, b), a)`, but `T.max(b, a)` where b is a constant, which costs
    nothing; and `y = -3.4e38` --> `y = -inf` where `y = T.max(y, x)` follows. `a != b` is true of NaN. It runs
    after the schedules, which know reductions by the form that TVM gives them. Attention stays as FuseAttention and
    AttendFewQueries wrote it: NaN reaches its results through exp, and rows that are masked as a whole need a finite maximum.
    Our kernels for CPUs write their constants first. Of those for GPUs, ReLU alone loses NaN: other activations multiply by x.

    Parameters
    ----------
    gpu : bool
        Whether functions are for a GPU. Then both operands are looked at, and a constant, too, has to be chosen or not:
        `T.max(a, b)` --> `T.Select(a <= inf, T.Select(b <= inf, T.max(a, b), b), a)`.
    """

    def __init__(self, gpu: bool = False) -> None:
        self.gpu = gpu

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        def rewrite(name: str, func: tirx.PrimFunc) -> tirx.PrimFunc | None:
            workload = Workload.of(func)
            if self.gpu:
                ours = workload is not None and workload.activation != "relu"
                return None if ours or _reduces_across_threads(func) else _rewrite(func, _propagate_on_gpu)
            return None if name.startswith((ATTENTION, FEW_QUERIES)) or workload is not None else _rewrite(func, _propagate)

        return rewrite_prim_funcs(mod, rewrite)


def _reduces_across_threads(func: tirx.PrimFunc) -> bool:
    """Whether threads share a maximum, which TVM must know by its form; in softmax NaN reaches the result through exp."""
    threads: list[tirx.Var] = []
    shared: list[SBlock] = []

    def note_thread(loop: tirx.For) -> None:
        if loop.thread_binding is not None and loop.thread_binding.thread_tag.startswith("threadIdx"):
            threads.append(loop.loop_var)

    def note_block(realize: SBlockRealize) -> None:
        axes = zip(realize.block.iter_vars, realize.iter_values, strict=True)
        reduced = [var for axis, value in axes if axis.iter_type == tirx.IterVar.CommReduce for var in variables(value)]
        if any(var.same_as(thread) for var in reduced for thread in threads):
            shared.append(realize.block)

    tvm_ffi.structural_walk(func.body, (tirx.For, note_thread))
    tvm_ffi.structural_walk(func.body, (SBlockRealize, note_block))
    return any(_extrema(block.body) for block in shared)


def _rewrite(func: tirx.PrimFunc, propagate: Callable[..., tirx.Expr]) -> tirx.PrimFunc | None:
    updates: list[tuple[tirx.Buffer, type]] = []

    def note(store: tirx.BufferStore) -> None:
        update = store.value
        if isinstance(update, Extremum) and any(_reads(side, store.buffer) for side in (update.a, update.b)):
            updates.append((store.buffer, type(update)))

    def begin(store: tirx.BufferStore) -> tirx.BufferStore:
        kind = next((kind for buffer, kind in updates if buffer.same_as(store.buffer)), None)
        if kind is None or not isinstance(store.value, tirx.FloatImm) or not _is_floating(store.value):
            return store
        start = tirx.const(-math.inf if kind is tirx.Max else math.inf, str(store.value.ty.dtype))
        return tirx.BufferStore(store.buffer, start, store.indices)

    tvm_ffi.structural_walk(func.body, (tirx.BufferStore, note))
    body = tvm_ffi.structural_map(func.body, (tirx.BufferStore, begin)) if updates else func.body
    rewrites = [((tirx.Max, tirx.Min), partial(propagate, bind=not rounds_to_bfloat16(func))), (tirx.NE, _differ)]
    body = tvm_ffi.structural_map(body, rewrites if propagate is _propagate else rewrites[:1])  # on a GPU, NaN does differ
    return None if body.same_as(func.body) else func.with_body(body)


def _propagate(extremum: Extremum, bind: bool) -> tirx.Expr:
    a, b, kind = extremum.a, extremum.b, type(extremum)
    if not _is_floating(a) or isinstance(a, tirx.FloatImm):
        return extremum
    if isinstance(b, tirx.FloatImm):
        return kind(b, a)
    if _extrema(a) > _extrema(b):  # a is read three times: a chain of 16 maxima took TVM's simplifier minutes
        a, b = b, a
    if isinstance(a, TensorLoad) or not bind or str(a.ty.dtype) == "bfloat16":
        return _select(kind, a, b)
    x = tirx.Var("x", str(a.ty.dtype))  # bound once: what is read three times would be computed three times
    return tirx.Let(x, a, _select(kind, x, b))


def _propagate_on_gpu(extremum: Extremum, bind: bool) -> tirx.Expr:
    a, b, kind = extremum.a, extremum.b, type(extremum)
    if not _is_floating(a) or (isinstance(a, tirx.FloatImm) and isinstance(b, tirx.FloatImm)):
        return extremum
    if isinstance(a, tirx.FloatImm | tirx.Broadcast):
        a, b = b, a
    lets: list[tuple[tirx.Var, tirx.Expr]] = []

    def once(value: tirx.Expr) -> tirx.Expr:
        simple = isinstance(value, TensorLoad | tirx.FloatImm | tirx.Broadcast | tirx.Var)
        if simple or not bind or str(value.ty.dtype) == "bfloat16":
            return value
        lets.append((tirx.Var("x", str(value.ty.dtype)), value))
        return lets[-1][0]

    x, y = once(a), once(b)
    larger = kind(x, y) if isinstance(y, tirx.FloatImm) else T.Select(_is_number_on_gpu(y), kind(x, y), y)
    result = T.Select(_is_number_on_gpu(x), larger, x)
    for var, value in reversed(lets):
        result = tirx.Let(var, value, result)
    return result


def _extrema(value: tirx.Expr | tirx.Stmt) -> int:
    """Return how many maxima and minima are in an expression or statement."""
    found: list[Extremum] = []
    tvm_ffi.structural_walk(value, ((tirx.Max, tirx.Min), found.append))
    return len(found)


def _select(kind: type, a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
    # Only NaN is not at most infinity; T.isnan would end vectors: a maximum over tokens took 6.7x the time.
    return T.Select(_is_number(a), kind(a, b), a)


def _is_number(value: tirx.Expr) -> tirx.Expr:
    return value <= tirx.const(math.inf, str(value.ty.dtype))


def _is_number_on_gpu(value: tirx.Expr) -> tirx.Expr:
    wide = T.cast(value, "float32") if str(value.ty.dtype) == "bfloat16" else value
    return _is_number(wide)


def _differ(unequal: tirx.NE) -> tirx.Expr:
    if not _is_floating(unequal.a):
        return unequal
    numbers = tirx.all(_is_number(unequal.a), _is_number(unequal.b))
    # as a number, for TVM would simplify `not a <= b` to `b < a`
    return tirx.any(unequal, tirx.EQ(tirx.Cast("int8", numbers), tirx.const(0, "int8")))


def _reads(value: tirx.Expr, buffer: tirx.Buffer) -> bool:
    return isinstance(value, TensorLoad) and value.source.same_as(buffer)


def _is_floating(value: tirx.Expr) -> bool:
    return "float" in str(value.ty.dtype)
