"""What the passes over Relax functions share."""

from collections.abc import Callable

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator


def entry_point_of(func: relax.Function, before: str) -> str:
    """Return the entry point that a function is, or is a part of: a private one belongs to the one `before` it."""
    return str((func.attrs or {}).get("global_symbol", before))


def rewrite_relax_funcs(
    mod: tvm.IRModule, mutator: PyExprMutator, start: Callable[[relax.Function], None] | None = None
) -> tvm.IRModule:
    """Return a module in which `mutator` has rewritten each Relax function, without the bindings that nothing reads afterwards.

    Parameters
    ----------
    mod : tvm.IRModule
    mutator : PyExprMutator
        Made of `mod`, whose builder receives what it emits and the functions that it adds.
    start : callable, optional
        Is called with each function before the mutator visits it, to look for what one call alone does not show.
    """
    for var, func in mod.functions_items():
        if isinstance(func, relax.Function):
            if start is not None:
                start(func)
            mutator.builder_.update_func(var, relax.analysis.remove_all_unused(mutator.visit_expr(func)))
    return mutator.builder_.finalize()
