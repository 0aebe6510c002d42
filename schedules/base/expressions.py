"""TIR expressions: constants, divisibility, variables and their substitution."""

from collections.abc import Mapping, Sequence
from typing import Any

import tvm_ffi
from tvm import sym, tirx


def int64(value: int) -> tirx.IntImm:
    """Return a 64-bit constant. A PrimFunc that Relax calls must have 64-bit shapes."""
    return tirx.IntImm("int64", value)


def divisor(n: int, most: int) -> int:
    """Return the largest divisor of `n` that is at most `most`."""
    return next(d for d in range(min(n, most), 0, -1) if n % d == 0)


def divisors(n: int, most: int) -> list[int]:
    """Return the divisors of `n` up to `most`, ascending."""
    return [d for d in range(1, min(n, most) + 1) if n % d == 0]


def is_multiple(count: Any, of: int) -> bool:
    """Whether a number or an expression is known to be a multiple of `of`."""
    if isinstance(count, (int, tirx.IntImm)):
        return not int(count) % of
    found = sym.Analyzer().modular_set(count)
    return not found.coeff % of and not found.base % of


def variables(index: Any) -> list[tirx.Var]:
    """Return the variables that an expression reads, each as often as it reads it."""
    found: list[tirx.Var] = []
    tvm_ffi.structural_walk(index, (tirx.Var, found.append))
    return found


def substitute(node: Any, places: Sequence[tuple[tirx.Var, Any]]) -> Any:
    """Return an expression or a statement in which each variable is replaced by its partner in `places`."""

    def replace(var: tirx.Var) -> Any:
        return next((place for old, place in places if var.same_as(old)), var)

    return tvm_ffi.structural_map(node, (tirx.Var, replace))


def evaluate(expr: Any, sizes: Mapping[str, int]) -> int:
    """Return the value of an expression whose variables have sizes by name; a size that is not known counts as 1."""
    if not isinstance(expr, (int, tirx.IntImm)):
        known = [(var, tirx.IntImm(str(var.ty.dtype), sizes.get(var.name, 1))) for var in variables(expr)]
        expr = sym.Analyzer().simplify(substitute(expr, known))
    return int(expr)


def without_loops(func: tirx.PrimFunc, name: str) -> tirx.PrimFunc:
    """Return a function without its loops over a variable of this name, which must run once, from 0."""

    def drop(loop: tirx.For) -> Any:
        return substitute(loop.body, [(loop.loop_var, int64(0))]) if loop.loop_var.name == name else loop

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, drop)))
