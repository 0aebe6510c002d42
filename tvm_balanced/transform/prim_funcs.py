"""What the passes over TensorIR functions share."""

from collections.abc import Callable

import tvm
from tvm import tirx


def rewrite_prim_funcs(mod: tvm.IRModule, rewrite: Callable[[str, tirx.PrimFunc], tirx.PrimFunc | None]) -> tvm.IRModule:
    """Return a module in which `rewrite(name, function)` replaces each TensorIR function, but where it returns None."""
    functions = dict(mod.functions_items())
    for var, func in mod.functions_items():
        if isinstance(func, tirx.PrimFunc):
            replacement = rewrite(var.name_hint, func)
            functions[var] = func if replacement is None else replacement
    return tvm.IRModule(functions, attrs=mod.attrs)
