"""EstimateFunctions: count the arithmetic and the bytes of functions that no kernel of ours computes; changes nothing."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar, Op
from tvm.s_tir import SBlockRealize

from tvm_balanced.core.accounting import FunctionUse
from tvm_balanced.core.dtypes import numpy_dtype
from tvm_balanced.schedules.base.expressions import evaluate
from tvm_balanced.schedules.few_queries import FLOPS

ARITHMETIC = (tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Min, tirx.Max)
CALL = 16  # operations of a call, such as exp
CHEAP = ("tirx.if_then_else", "tirx.fabs", "tirx.reinterpret")


@tvm.transform.module_pass(opt_level=0, name="EstimateFunctions")
class EstimateFunctions:
    """Count what the functions of a fused module do that are not scheduled yet, or say so, at the sizes of the examples.

    rewrite: none. Runs after our kernels are scheduled, and before the rest is: of loops that nobody has cut yet, every
    statement runs as often as the loops around it say.

    Parameters
    ----------
    sizes : mapping
        Symbol of a dimension to its size in the examples.

    Attributes
    ----------
    functions : dict of FunctionUse
        After the pass: by name, not scheduled.
    """

    def __init__(self, sizes: Mapping[str, int] | None = None) -> None:
        self.sizes = dict(sizes or {})
        self.functions: dict[str, FunctionUse] = {}

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        times = _times(mod)

        def visit(expr: relax.Expr, times: int) -> None:
            called = _called(expr)
            if called is not None and ("tirx.is_scheduled" not in mod[called].attrs or FLOPS in mod[called].attrs):
                self.count(called.name_hint, mod[called], expr, times)

        for var, func in mod.functions_items():
            if isinstance(func, relax.Function):
                relax.analysis.post_order_visit(func, partial(visit, times=times.get(var, 1)))
        return mod

    def count(self, name: str, func: tirx.PrimFunc, call: relax.Call, times: int) -> None:
        """Add one call of a function, which runs several times."""
        sizes = _sizes(func, call, self.sizes)
        work = _Work(func, sizes)
        operations = int(func.attrs.get(FLOPS, work.operations))
        known = self.functions.get(name, FunctionUse(name, 0, 0.0, 0, False))
        self.functions[name] = replace(
            known,
            calls=known.calls + times,
            macs=known.macs + times * operations / 2,
            nbytes=known.nbytes + times * work.nbytes,
        )


def _times(mod: tvm.IRModule) -> Counter[GlobalVar]:
    """Count how often functions of Relax are called by others, as attention is by each layer."""
    times: Counter[GlobalVar] = Counter()

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, relax.Call) and isinstance(expr.op, GlobalVar):
            times[expr.op] += 1

    for _, func in mod.functions_items():
        if isinstance(func, relax.Function):
            relax.analysis.post_order_visit(func, visit)
    return times


def _called(expr: relax.Expr) -> GlobalVar | None:
    """Return the function that an expression calls in TensorIR, None if it is another expression."""
    calls = isinstance(expr, relax.Call) and isinstance(expr.op, Op) and expr.op.name.startswith("relax.call_tir")
    return expr.args[0] if calls and isinstance(expr.args[0], GlobalVar) else None


def _sizes(func: tirx.PrimFunc, call: relax.Call, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the sizes of the variables in a function's shapes, from the tensors that it is called with."""
    results = call.ty.fields if isinstance(call.ty, relax.TupleType) else [call.ty]
    given = [*(arg.ty for arg in call.args[1].fields), *results]
    known: dict[str, int] = {}
    for param, ty in zip(func.params, given, strict=False):
        for dim, size in zip(getattr(param.ty, "shape", ()), getattr(ty, "shape", None) or (), strict=False):
            if isinstance(dim, tirx.Var):
                known[dim.name] = evaluate(size, sizes)
    return {**sizes, **known}


class _Work:
    """What one call of a function does: floating-point operations, and bytes of its parameters that it reads or writes.

    A statement counts as one operation at least, for a copy takes time, too. Of a parameter no more bytes count than there
    are, and no more than there are accesses: a lookup does not read its table.
    """

    def __init__(self, func: tirx.PrimFunc, sizes: Mapping[str, int]) -> None:
        self.sizes, self.operations = sizes, 0
        self.accesses: Counter[str] = Counter()
        if FLOPS not in func.attrs:
            self.visit(func.body, 1)
        self.nbytes = 0
        for param in func.params:
            if isinstance(param.ty, tirx.BufferType):
                elements = int(np.prod([evaluate(dim, sizes) for dim in param.ty.shape], dtype=np.int64))
                read = elements if FLOPS in func.attrs else min(elements, self.accesses[param.name])
                self.nbytes += read * numpy_dtype(str(param.ty.dtype.dtype)).itemsize

    def visit(self, stmt: Any, times: int) -> None:
        """Count a statement that runs `times` times."""
        if isinstance(stmt, tirx.For):
            self.visit(stmt.body, times * evaluate(stmt.extent, self.sizes))
        elif isinstance(stmt, tirx.SeqStmt):
            for part in stmt:
                self.visit(part, times)
        elif isinstance(stmt, SBlockRealize):
            self.visit(stmt.block.body, times)
        elif isinstance(stmt, tirx.IfThenElse):
            for part in (stmt.then_case, stmt.else_case):
                if part is not None:
                    self.visit(part, times)
        elif isinstance(stmt, (tirx.BufferStore, tirx.Evaluate)):
            self.statement(stmt, times)
        elif hasattr(stmt, "body"):
            self.visit(stmt.body, times)

    def statement(self, stmt: Any, times: int) -> None:
        """Count one store or call."""
        arithmetic: list[Any] = []
        loads: list[Any] = []
        tvm_ffi.structural_walk(stmt, [((*ARITHMETIC, tvm.ir.Call), arithmetic.append), (tvm.ir.expr.TensorLoad, loads.append)])
        self.operations += times * max(1, sum(_operations(part) for part in arithmetic))
        for buffer in (*(load.source for load in loads), getattr(stmt, "buffer", None)):
            if buffer is not None:
                self.accesses[buffer.name] += times


def _operations(expr: Any) -> int:
    """Return how many floating-point operations an expression is, without its operands."""
    if "float" not in str(getattr(expr.ty, "dtype", "")):  # an index
        return 0
    return CALL if isinstance(expr, tvm.ir.Call) and getattr(expr.op, "name", "") not in CHEAP else 1
