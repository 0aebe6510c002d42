"""CheckLookups: an index out of range gives NaN (or the nearest row), where TVM's default reads foreign memory.

TVM 0.27 imports embeddings of PyTorch as `R.take` in mode "fast", its default, which does not look at the index:

    table = torch.arange(8.0)[:, None]
    y = R.take(x, i, axis=0)                 # compiled for x of four rows
    vm["main"](table[:4], i=5)               # 5.0, from behind the table; a segmentation fault if nothing is there

Issue: not reported yet; TVM warns of it when it compiles. May go when `test_plain_tvm_reads_behind_the_table` fails.
"""

import tvm
from tvm import relax
from tvm.ir import Op
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs


@tvm.transform.module_pass(opt_level=0, name="CheckLookups")
class CheckLookups:
    """Make every take, as embeddings are imported, safe for any index.

    rewrite: `take(table, i, mode="fast")` --> `take(table, i, mode="nan")`; "clip" where the table is not floating point.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        return rewrite_relax_funcs(mod, _Checker(mod))


@mutator
class _Checker(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if not (isinstance(call.op, Op) and call.op.name == "relax.take" and call.attrs.mode == "fast"):
            return call
        mode = "nan" if "float" in str(call.args[0].ty.dtype) else "clip"
        axis = None if call.attrs.axis is None else int(call.attrs.axis)
        return relax.op.take(call.args[0], call.args[1], axis, mode=mode)
