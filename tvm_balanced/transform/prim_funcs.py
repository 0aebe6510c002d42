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
