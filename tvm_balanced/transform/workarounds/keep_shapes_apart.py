"""KeepShapesApart: what makes a tensor of a size is not fused, because TVM's FuseTIR then ends in an internal error.

TVM 0.27 names the size twice in the fused function, as a parameter and as a symbol, if another symbol is passed as well:

    y = add(a, reshape(shape_to_tensor([m]), []))    a: (n + 1,), b: (m,)
    FuseTIR                                          Check failed: (VarRemapGet(source) == nullptr) is false

Issue: not reported yet. May go when `test_plain_tvm_cannot_fuse_a_size` fails.
"""

import tvm

from tvm_balanced.transform.prim_funcs import rewrite_prim_funcs

OP_PATTERN, OPAQUE = "op_pattern", 8  # relax.op.OpPatternKind.kOpaque: fused with nothing


@tvm.transform.module_pass(opt_level=0, name="KeepShapesApart")
class KeepShapesApart:
    """Mark the functions that write a size to a tensor as opaque. They write a few numbers, which costs less than a call."""

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        def mark(name: str, func: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc | None:
            return func.with_attr(OP_PATTERN, OPAQUE) if name.startswith("shape_to_tensor") else None

        return rewrite_prim_funcs(mod, mark)
