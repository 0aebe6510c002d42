"""NoteVariables: which variables of an imported model each function computes."""

from collections import defaultdict

import tvm
from tvm import relax

CALL_TIR = "relax.call_tir"
PRIMITIVE = "Primitive"  # of a function that FuseOps has made


@tvm.transform.module_pass(opt_level=0, name="NoteVariables")
class NoteVariables:
    """Keep in `variables`, for the name of each function, the names of the variables that are bound to its results.

    The module stays as it is. To be run before FuseOps and after it: a fused function computes what those did that are in it.
    Variables keep the names that the way in gave them, see `frontend/torch_operators.py`.
    """

    def __init__(self) -> None:
        self.variables: dict[str, set[str]] = defaultdict(set)

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        for var, func in mod.functions_items():
            if not isinstance(func, relax.Function):
                continue
            fused = PRIMITIVE in (func.attrs or {})
            for binding in (binding for block in func.body.blocks for binding in block.bindings):
                call = getattr(binding, "value", None)
                if not (isinstance(call, relax.Call) and getattr(call.op, "name", "") == CALL_TIR):
                    continue
                inner = call.args[0].name_hint
                if fused:
                    self.variables[var.name_hint] |= self.variables[inner]
                else:
                    self.variables[inner].add(binding.var.name)
        return mod
