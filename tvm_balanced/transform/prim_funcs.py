"""What the passes over TensorIR functions share."""

from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx


def rewrite_prim_funcs(mod: tvm.IRModule, rewrite: Callable[[str, tirx.PrimFunc], tirx.PrimFunc | None]) -> tvm.IRModule:
    """Return a module in which `rewrite(name, function)` replaces each TensorIR function, but where it returns None."""
    functions = dict(mod.functions_items())
    for var, func in mod.functions_items():
        if isinstance(func, tirx.PrimFunc):
            replacement = rewrite(var.name_hint, func)
            functions[var] = func if replacement is None else replacement
    return tvm.IRModule(functions, attrs=mod.attrs)


def map_body(func: tirx.PrimFunc, node: type, replace: Callable[[Any], Any]) -> tirx.PrimFunc | None:
    """Return a function with `replace` applied to each `node` of its body, from the inside out; None where nothing changes."""
    body = tvm_ffi.structural_map(func.body, (node, replace))
    return None if body.same_as(func.body) else func.with_body(body)


def rounds_to_bfloat16(func: tirx.PrimFunc) -> bool:
    """Whether a function may bind no variable in an expression.

    TVM 0.27 rounds to bfloat16 by an expression that has the value twice, and the variable with it; vectorized, that is wrong.
    """
    found: list[tirx.Cast] = []

    def look(cast: tirx.Cast) -> None:
        if str(cast.ty.dtype) == "bfloat16":
            found.append(cast)

    tvm_ffi.structural_walk(func.body, (tirx.Cast, look))
    return bool(found)
