"""AlignConstants: constants that are not 64-byte aligned --> copies that are; compiled code crashes without."""

import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.core.mapped_files import release
from tvm_balanced.ops import is_dense_op
from tvm_balanced.runtime.tensors import ALIGNMENT, address_of, view
from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs


@tvm.transform.module_pass(opt_level=0, name="AlignConstants")
class AlignConstants:
    """Copy constants that are not 64-byte aligned, as views of a file or of a part of another tensor; each once.

    rewrite: `f(x, c)` --> `f(x, aligned copy of c)`. The weights of our dense operators stay as they are: they are packed, which
    needs no alignment.

    Parameters
    ----------
    names : dict
        Address of a weight to its name in the model; receives those of the copies.
    folded : bool
        Whether to copy only what calls take that depend on no input. FoldConstant runs these; others may still be packed, or
        be looked at and nothing else.
    """

    def __init__(self, names: dict[int, str], folded: bool = False) -> None:
        self.names, self.folded = names, folded

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        aligner = _Aligner(mod, self.names, self.folded)
        return rewrite_relax_funcs(mod, aligner, aligner.begin)


@mutator
class _Aligner(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, names: dict[int, str], folded: bool) -> None:
        super().__init__(mod)
        self.names, self.folded, self.within = names, folded, not folded
        self.foldable: set[relax.Expr] = set()
        self.copies: dict[tuple[int, str], relax.Expr] = {}

    def begin(self, func: relax.Function) -> None:
        """Find the calls of a function that depend on no input of it."""
        self.foldable = _foldable(func) if self.folded else set()

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        before = self.within  # weight and bias of a dense operator are packed by NumPy
        self.within = not is_dense_op(call) and (before or call in self.foldable)
        call = self.visit_expr_post_order(call)
        self.within = before
        return call

    def visit_generic_const_(self, op: GenericConst) -> relax.Expr:
        if not self.within or not isinstance(op.ty, relax.TensorType) or address_of(op.value) % ALIGNMENT == 0:
            return op
        address = address_of(op.value)
        key = (address, str(op.ty))
        if key not in self.copies:
            copy = relax.const(tvm.runtime.tensor(view(op.value)))
            release(view(op.value))
            self.copies[key] = copy
            if address in self.names:
                self.names[address_of(copy.value)] = self.names[address]
        return self.copies[key]


def _foldable(func: relax.Function) -> set[relax.Expr]:
    """Return the calls of a function whose operands are constants, and what is made of these."""
    calls: set[relax.Expr] = set()
    made: set[relax.Expr] = set()

    def is_made(expr: relax.Expr) -> bool:
        if isinstance(expr, relax.Var):
            return expr in made
        if isinstance(expr, relax.Tuple):
            return all(map(is_made, expr.fields))
        if isinstance(expr, relax.TupleGetItem):
            return is_made(expr.tuple_value)
        if isinstance(expr, relax.Call):
            found = all(map(is_made, expr.args))
            calls.update([expr] if found else [])
            return found
        return True  # constants, shapes, functions

    blocks = func.body.blocks if isinstance(func.body, relax.SeqExpr) else []
    for binding in (binding for block in blocks for binding in block.bindings):
        if isinstance(binding, relax.VarBinding) and is_made(binding.value):
            made.add(binding.var)
    return calls
