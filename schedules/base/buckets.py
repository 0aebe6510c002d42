"""Shape buckets: one function for every M, of specializations for ranges of M, which it chooses by M when it is called."""

from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx

from tvm_balanced.core.row_range import RowRange
from tvm_balanced.schedules.base.expressions import substitute


@dataclass(frozen=True)
class Specialization:
    """A function and the ranges of M that it is scheduled for."""

    func: tirx.PrimFunc
    ranges: tuple[RowRange, ...]


def dispatch_on_m(specializations: list[Specialization], kernels: bool = False) -> tirx.PrimFunc:
    """Return a function that runs the specialization whose ranges M is in; the last where M is in none.

    All have parameters for the same things, x (M, K) first, each with a symbolic M of its own. Their ranges do not overlap.

    Parameters
    ----------
    specializations : list of Specialization
    kernels : bool
        Whether they are GPU kernels, which TVM refuses to launch under a condition if they hold a barrier. Each then stands in
        a loop that runs once or not at all.
    """
    *others, last = specializations
    into, m = last.func, _rows_of(last.func)
    if not others:
        return into
    within = [tirx.any(*(_inside(m, rows) for rows in special.ranges)) for special in others]
    bodies = [_adopt(special.func, into) for special in others]
    if kernels:
        once = [_run_if(inside, body) for inside, body in zip(within, bodies, strict=True)]
        body: Any = tirx.SeqStmt([*once, _run_if(tirx.all(*(tirx.Not(inside) for inside in within)), into.body)])
    else:
        body = into.body
        for inside, special in reversed(list(zip(within, bodies, strict=True))):
            body = tirx.IfThenElse(inside, special, body)
    root = s_tir.SBlock([], [], [], "root", body)
    return into.with_body(s_tir.SBlockRealize([], tirx.IntImm("bool", 1), root))


def _inside(m: tirx.Var, rows: RowRange) -> Any:
    first, last = rows.first, rows.last
    return m >= first if last is None else tirx.all(m >= first, m <= last)


def _run_if(condition: Any, body: Any) -> tirx.For:
    """Return a loop over `body` that runs once where `condition` holds, else not."""
    return tirx.For(tirx.Var("once", "int64"), tirx.IntImm("int64", 0), tirx.Cast("int64", condition), tirx.ForKind.SERIAL, body)


def _rows_of(func: tirx.PrimFunc) -> tirx.Var:
    return func.params[0].ty.shape[0]


def _adopt(func: tirx.PrimFunc, into: tirx.PrimFunc) -> Any:
    """Return the body of `func` in terms of the parameters of `into`."""
    places = zip([*func.params, _rows_of(func)], [*into.params, _rows_of(into)], strict=True)
    return substitute(func.body, list(places))
