"""One function for every M: instances, each scheduled for some ranges of M, chosen by M when it is called."""

from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx

from tvm_balanced.schedules.base.expressions import substitute

Range = tuple[int, int | None]  # first and last M; None is no limit
EVERY_M: Range = (1, None)


@dataclass(frozen=True)
class Instance:
    """A function and the ranges of M that it is scheduled for."""

    func: tirx.PrimFunc
    ranges: tuple[Range, ...]


def common(a: Range, b: Range) -> Range | None:
    """Return the M that two ranges share, None where they share none."""
    lasts = [last for last in (a[1], b[1]) if last is not None]
    first, last = max(a[0], b[0]), min(lasts, default=None)
    return None if last is not None and first > last else (first, last)


def without(rows: Range, taken: list[Range]) -> tuple[Range, ...]:
    """Return what is left of `rows` without the ranges `taken`, which end and lie in ascending order in it."""
    first = rows[0]
    left: list[Range] = []
    for start, last in taken:
        if first < start:
            left.append((first, start - 1))
        assert last is not None
        first = last + 1
    if rows[1] is None or first <= rows[1]:
        left.append((first, rows[1]))
    return tuple(left)


def dispatch_on_m(instances: list[Instance], kernels: bool = False) -> tirx.PrimFunc:
    """Return a function that runs the instance whose ranges M is in; the last where M is in none.

    All have parameters for the same things, x (M, K) first, each with a symbolic M of its own. Their ranges do not overlap.

    Parameters
    ----------
    instances : list of Instance
    kernels : bool
        Whether they are GPU kernels, which TVM refuses to launch under a condition if they hold a barrier. Each then stands in
        a loop that runs once or not at all.
    """
    *others, last = instances
    into, m = last.func, _rows_of(last.func)
    if not others:
        return into
    within = [tirx.any(*(_inside(m, rows) for rows in instance.ranges)) for instance in others]
    bodies = [_adopt(instance.func, into) for instance in others]
    if kernels:
        once = [_run_if(inside, body) for inside, body in zip(within, bodies, strict=True)]
        body: Any = tirx.SeqStmt([*once, _run_if(tirx.all(*(tirx.Not(inside) for inside in within)), into.body)])
    else:
        body = into.body
        for inside, instance in reversed(list(zip(within, bodies, strict=True))):
            body = tirx.IfThenElse(inside, instance, body)
    root = s_tir.SBlock([], [], [], "root", body)
    return into.with_body(s_tir.SBlockRealize([], tirx.IntImm("bool", 1), root))


def _inside(m: tirx.Var, rows: Range) -> Any:
    first, last = rows
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
