"""One function for every M: instances of a kernel for small M, chosen by M when it is called."""

from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import s_tir, tirx


@dataclass(frozen=True)
class Instance:
    """A function scheduled for M from `first` to `last`."""

    first: int
    last: int
    func: tirx.PrimFunc


def choose_by_rows(otherwise: tirx.PrimFunc, instances: list[Instance], kernels: bool = False) -> tirx.PrimFunc:
    """Return a function that runs the first instance that M falls into, else `otherwise`.

    All are the same function of (x (M, K), ...) but for their schedules, each with a symbolic M of its own. Their ranges of M do
    not overlap.

    Parameters
    ----------
    otherwise : tirx.PrimFunc
    instances : list of Instance
    kernels : bool
        Whether they are GPU kernels, which TVM refuses to launch under a condition if they hold a barrier. Each then stands in
        a loop that runs once or not at all.
    """
    m = _rows_of(otherwise)
    within = [tirx.all(m >= instance.first, m <= instance.last) for instance in instances]
    bodies = [_adopt(instance.func, otherwise) for instance in instances]
    if kernels:
        once = [_run_if(inside, body) for inside, body in zip(within, bodies, strict=True)]
        body: Any = tirx.SeqStmt([*once, _run_if(tirx.all(*(tirx.Not(inside) for inside in within)), otherwise.body)])
    else:
        body = otherwise.body
        for inside, instance in reversed(list(zip(within, bodies, strict=True))):
            body = tirx.IfThenElse(inside, instance, body)
    root = s_tir.SBlock([], [], [], "root", body)
    return otherwise.with_body(s_tir.SBlockRealize([], tirx.IntImm("bool", 1), root))


def _run_if(condition: Any, body: Any) -> tirx.For:
    """Return a loop over `body` that runs once where `condition` holds, else not."""
    return tirx.For(tirx.Var("once", "int64"), tirx.IntImm("int64", 0), tirx.Cast("int64", condition), tirx.ForKind.SERIAL, body)


def _rows_of(func: tirx.PrimFunc) -> tirx.Var:
    return func.params[0].ty.shape[0]


def _adopt(func: tirx.PrimFunc, into: tirx.PrimFunc) -> Any:
    """Return the body of `func` in terms of the parameters of `into`."""
    own, theirs = [*func.params, _rows_of(func)], [*into.params, _rows_of(into)]

    def replace(var: Any) -> Any:
        return next((b for a, b in zip(own, theirs, strict=True) if var.same_as(a)), var)

    return tvm_ffi.structural_map(func.body, (type(own[-1]), replace))
