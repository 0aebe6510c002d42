"""PreferAttentionLibrary: the functions of AttendByLibrary ask a library of the process first, after everything is scheduled."""

import tvm
from tvm import relax
from tvm.ir import StringImm

from tvm_balanced.core.library_functions import ATTENTION, ATTENTION_USABLE
from tvm_balanced.transform.attend_by_library import ATTENTION_ATTR


@tvm.transform.module_pass(opt_level=0, name="PreferAttentionLibrary")
class PreferAttentionLibrary:
    """Let each function of attention call the library of the process where there is one.

    rewrite: `def attention(q, k, v): ...` --> `def attention_own(q, k, v): ...` and `def attention(q, k, v): if
    call_packed(usable): call_packed(attend, q, k, v) else: attention_own(q, k, v)`. Callers stay as they are. The memory of the
    scores is not allocated where the library computes.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        builder, kind = relax.BlockBuilder(mod), tvm.target.Target.current().kind.name
        found = False
        for var, func in mod.functions_items():
            if isinstance(func, relax.Function) and ATTENTION_ATTR in (func.attrs or {}):
                told, own = str(func.attrs[ATTENTION_ATTR]), func.without_attr(ATTENTION_ATTR)
                builder.update_func(var, _asking(own, builder.add_func(own, f"{var.name_hint}_own"), kind, told))
                found = True
        return relax.transform.Normalize()(builder.finalize()) if found else mod


def _asking(own: relax.Function, called: tvm.ir.GlobalVar, kind: str, told: str) -> relax.Function:
    """Return a function with the parameters of `own`, whose name is `called`."""
    own = relax.utils.copy_with_new_vars(own)
    device, ty, params = StringImm(kind), own.ret_ty, list(own.params)
    usable, y = relax.Var("usable", relax.TensorType((), "bool")), relax.Var("y", ty)
    asked = relax.op.call_pure_packed(ATTENTION_USABLE, device, ty_args=usable.ty)
    library = relax.op.call_pure_packed(ATTENTION, device, StringImm(told), *params, ty_args=ty)
    chosen = relax.If(usable, _only(library, ty), _only(relax.Call(called, params), ty))
    block = relax.BindingBlock([relax.VarBinding(usable, asked), relax.VarBinding(y, chosen)])
    return relax.Function(params, relax.SeqExpr([block], y), ty, own.is_pure, own.attrs)


def _only(value: relax.Expr, ty: relax.Type) -> relax.SeqExpr:
    """Return a branch that computes one value."""
    result = relax.Var("result", ty)
    return relax.SeqExpr([relax.BindingBlock([relax.VarBinding(result, value)])], result)
