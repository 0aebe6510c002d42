"""FuseAttention: attention becomes one function, whose scores need not leave the cache."""

from collections import Counter
from collections.abc import Callable

import tvm
from tvm import relax
from tvm.ir import GlobalVar
from tvm.relax.dpl import DFPattern, is_op, wildcard
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.relax.transform import FusionPattern, PatternCheckContext

from tvm_balanced.schedules.rules.cpu_attention import is_supported
from tvm_balanced.transform.fuse_epilogue import count_uses
from tvm_balanced.transform.match_attention import match_attention, scores_pattern
from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs

NAME = "attention"
SMALLEST = 1e-37  # of a sum of powers, one of which is 1 unless a row is masked as a whole


@tvm.transform.module_pass(opt_level=0, name="FuseAttention")
class FuseAttention:
    """Group what makes attention into primitive functions, for the current target's rule cpu_attention.

    rewrite: `matmul(softmax(scores), v)` --> `divide(matmul(e, v), sum(e))` with `e = exp(subtract(scores, max(scores)))`, which
    divides fewer numbers, and that with the product, scale and mask of the scores, and with the transposes around all, to a
    function `attention`. PyTorch's safe softmax, whose rows are 0 where all scores are -inf, is recognised. Probabilities that
    something else reads too stay as they are, and so do masks that are made of the scores, and what the rule does not take.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        dividing = _DivideLast(mod)
        divided = rewrite_relax_funcs(mod, dividing, dividing.start)
        if not dividing.found:
            return mod
        patterns = [FusionPattern(NAME, _divided(operand), {}, _stands_alone) for operand in (_operand, wildcard)]
        return _named(relax.transform.FuseOpsByPattern(patterns, bind_constants=False)(divided))


@mutator
class _DivideLast(PyExprMutator):
    """Divide after the product with the values, where the rest is such that it will be grouped."""

    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.uses: Counter[relax.Var] = Counter()
        self.bound: dict[relax.Var, relax.Expr] = {}
        self.found = 0

    def start(self, func: relax.Function) -> None:
        """Begin with a function."""
        self.uses, self.bound = count_uses(func), relax.analysis.get_var2val(func)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        match = match_attention(call, self.uses, self.bound)
        call = self.visit_expr_post_order(call)
        if match is None or not is_supported(*match.sizes, tvm.target.Target.current()):
            return call
        self.found += 1
        scores, emit, op = self.visit_expr(match.scores), self.builder_.emit, relax.op
        powers = emit(op.exp(emit(op.subtract(scores, emit(op.max(scores, -1, keepdims=True))))))
        total = emit(op.sum(powers, -1, keepdims=True))
        if match.safe:
            total = emit(op.maximum(total, relax.const(SMALLEST, "float32")))
        return op.divide(emit(op.matmul(powers, call.args[1], "float32")), total)


def _stands_alone(context: PatternCheckContext) -> bool:
    """Whether nothing that a group reads is made of a part of it, as a mask from the queries that the group would transpose."""
    inside, seen = set(context.matched_bindings), set()
    waiting = [user for var in inside for user in context.var_usages.get(var, ()) if user not in inside]
    while waiting:
        var = waiting.pop()
        if var in inside:
            return False
        if var not in seen:
            seen.add(var)
            waiting.extend(context.var_usages.get(var, ()))
    return True


def _operand() -> DFPattern:
    permuted = is_op("relax.permute_dims")(wildcard())
    scaled = is_op("relax.multiply")(permuted | wildcard(), wildcard()) | permuted
    places = is_op("relax.arange")(wildcard(), wildcard(), wildcard())
    grown = is_op("relax.nn.pad")(scaled | wildcard()) | is_op("relax.take")(scaled | wildcard(), places)
    return grown | scaled | wildcard()


def _divided(operand: Callable[[], DFPattern]) -> DFPattern:
    """What _DivideLast makes, with what is before and after it."""
    scores = scores_pattern(operand)
    powers = is_op("relax.exp")(is_op("relax.subtract")(scores, is_op("relax.max")(scores)))
    total = is_op("relax.sum")(powers)
    total = is_op("relax.maximum")(total, wildcard()) | total
    result = is_op("relax.divide")(is_op("relax.matmul")(powers, operand()), total)
    return is_op("relax.permute_dims")(result) | result


def _named(mod: tvm.IRModule) -> tvm.IRModule:
    """Return the module with its groups under a short name, which profiles show."""
    naming = _Naming(mod)
    groups = {var: func for var, func in mod.functions_items() if func.attrs is not None and "Composite" in func.attrs}
    naming.names = {var: naming.builder_.add_func(func.without_attr("Composite"), NAME) for var, func in groups.items()}
    return relax.transform.DeadCodeElimination()(rewrite_relax_funcs(mod, naming))


@mutator
class _Naming(PyExprMutator):
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.names: dict[GlobalVar, GlobalVar] = {}

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        return relax.Call(self.names[call.op], call.args) if call.op in self.names else call
