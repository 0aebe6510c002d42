"""FuseAttention: attention becomes one function, whose scores need not leave the cache."""

from collections import Counter
from collections.abc import Callable

import tvm
from tvm import relax
from tvm.ir import GlobalVar, Op
from tvm.relax.dpl import DFPattern, is_op, wildcard
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.schedules.cpu_attention import suits
from tvm_balanced.transform.fuse_epilogue import count_uses

NAME = "attention"
SMALLEST = 1e-37  # of a sum of powers, one of which is 1 unless a row is masked as a whole


@tvm.transform.module_pass(opt_level=0, name="FuseAttention")
class FuseAttention:
    """Group what makes attention into primitive functions, for the current target's rule cpu_attention.

    rewrite: `matmul(softmax(scores), v)` --> `divide(matmul(e, v), sum(e))` with `e = exp(subtract(scores, max(scores)))`, which
    divides fewer numbers, and that with the product, scale and mask of the scores, and with the transposes around all, to a
    function `attention`. PyTorch's safe softmax, whose rows are 0 where all scores are -inf, is recognised. Probabilities that
    something else reads too stay as they are, and so does what the rule does not take.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        dividing = _DivideLast(mod)
        for var, func in mod.functions_items():
            if isinstance(func, relax.Function):
                dividing.uses, dividing.bound = count_uses(func), relax.analysis.get_var2val(func)
                dividing.builder_.update_func(var, relax.analysis.remove_all_unused(dividing.visit_expr(func)))
        if not dividing.found:
            return mod
        patterns = [(NAME, _divided(_operand)), (NAME, _divided(wildcard))]
        return _named(relax.transform.FuseOpsByPattern(patterns, bind_constants=False)(dividing.builder_.finalize()))


@mutator
class _DivideLast(PyExprMutator):
    """Divide after the product with the values, where the rest is such that it will be grouped."""

    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.uses: Counter[relax.Var] = Counter()
        self.bound: dict[relax.Var, relax.Expr] = {}
        self.found = 0

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        scores, safe = self.scores_of(call)
        call = self.visit_expr_post_order(call)
        if scores is None:
            return call
        self.found += 1
        scores, emit, op = self.visit_expr(scores), self.builder_.emit, relax.op
        powers = emit(op.exp(emit(op.subtract(scores, emit(op.max(scores, -1, keepdims=True))))))
        total = emit(op.sum(powers, -1, keepdims=True))
        if safe:
            total = emit(op.maximum(total, relax.const(SMALLEST, "float32")))
        return op.divide(emit(op.matmul(powers, call.args[1], "float32")), total)

    def scores_of(self, call: relax.Call) -> tuple[relax.Var | None, bool]:
        """Return the scores of attention whose last product is `call`, None where it is none, and whether its softmax is safe."""
        if _op(call) != "relax.matmul" or str(call.ty.dtype.dtype) != "float32":
            return None, False
        probabilities, values = call.args
        safe = SAFE_SOFTMAX.match(probabilities, self.bound)
        if self.uses[probabilities] != 1 or not (safe or SOFTMAX.match(probabilities, self.bound)):
            return None, False
        softmax = self.bound[probabilities]
        softmax = self.bound[softmax.args[2]] if safe else softmax
        scores, axis = softmax.args[0], int(softmax.attrs.axis)
        *_, rows, length = scores.ty.shape
        last = axis in (-1, len(scores.ty.shape) - 1)
        fits = last and suits(rows, length, values.ty.shape[-1], tvm.target.Target.current())
        return (scores, safe) if fits else (None, False)


def _op(expr: relax.Expr) -> str:
    return expr.op.name if isinstance(expr, relax.Call) and isinstance(expr.op, Op) else ""


def _scores(operand: Callable[[], DFPattern]) -> DFPattern:
    product = is_op("relax.matmul")(operand(), operand())
    scaled = is_op("relax.multiply")(product, wildcard()) | is_op("relax.divide")(product, wildcard()) | product
    added = is_op("relax.add")(scaled, wildcard()) | is_op("relax.add")(wildcard(), scaled)
    return is_op("relax.where")(wildcard(), scaled, wildcard()) | added | scaled


def _softmax(scores: DFPattern) -> DFPattern:
    return is_op("relax.nn.softmax")(scores)


def _safe_softmax(scores: DFPattern) -> DFPattern:
    """PyTorch's: `where(not any(scores != -inf), 0, softmax(scores))`."""
    some = is_op("relax.logical_not")(is_op("relax.equal")(scores, wildcard()))
    some = is_op("relax.astype")(is_op("relax.max")(is_op("relax.astype")(some)))
    softmax = _softmax(scores)
    zero = is_op("relax.full_like")(softmax, wildcard())
    return is_op("relax.where")(is_op("relax.logical_not")(some), zero, softmax)


def _operand() -> DFPattern:
    permuted = is_op("relax.permute_dims")(wildcard())
    return is_op("relax.multiply")(permuted | wildcard(), wildcard()) | permuted | wildcard()


def _divided(operand: Callable[[], DFPattern]) -> DFPattern:
    """What _DivideLast makes, with what is before and after it."""
    scores = _scores(operand)
    powers = is_op("relax.exp")(is_op("relax.subtract")(scores, is_op("relax.max")(scores)))
    total = is_op("relax.sum")(powers)
    total = is_op("relax.maximum")(total, wildcard()) | total
    result = is_op("relax.divide")(is_op("relax.matmul")(powers, operand()), total)
    return is_op("relax.permute_dims")(result) | result


SOFTMAX, SAFE_SOFTMAX = _softmax(_scores(wildcard)), _safe_softmax(_scores(wildcard))


def _named(mod: tvm.IRModule) -> tvm.IRModule:
    """Return the module with its groups under a short name, which profiles show."""
    naming = _Naming(mod)
    groups = {var: func for var, func in mod.functions_items() if func.attrs is not None and "Composite" in func.attrs}
    naming.names = {var: naming.builder_.add_func(func.without_attr("Composite"), NAME) for var, func in groups.items()}
    for var, func in mod.functions_items():
        if isinstance(func, relax.Function) and var not in groups:
            naming.builder_.update_func(var, naming.visit_expr(func))
    return relax.transform.DeadCodeElimination()(naming.builder_.finalize())


@mutator
class _Naming(PyExprMutator):
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.names: dict[GlobalVar, GlobalVar] = {}

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        return relax.Call(self.names[call.op], call.args) if call.op in self.names else call
