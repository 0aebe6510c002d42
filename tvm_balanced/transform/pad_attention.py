"""PadAttention: attention over any number of tokens gets rows and a length that fill vectors, so that it can be one function."""

from collections import Counter
from typing import Any

import tvm
from tvm import relax, sym, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.schedules.rules.cpu_attention import padded
from tvm_balanced.transform.fuse_epilogue import count_uses
from tvm_balanced.transform.match_attention import AttentionMatch, match_attention
from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs

Sizes = tuple[Any, Any]  # rows and length, constants or expressions


@tvm.transform.module_pass(opt_level=0, name="PadAttention")
class PadAttention:
    """Pad attention whose sizes the rule cpu_attention does not take, or which are known only at the call.

    rewrite: `matmul(softmax(matmul(q, k)), v)` --> `strided_slice(matmul(softmax(add(matmul(q', k'), tail)), v'))`, where q', k'
    and v' have their last row again in each place that is added (a read that is clamped, as they are laid out anew), the tail is
    0 up to the length and -inf from there on, and masks are padded likewise. MiniLM, eight sentences, 4:16, one thread: 127
    tokens took 204 ms and take 98, 100 tokens 89 and 74; 128 of a length that changes from call to call took 2.5x the time of a
    known one, now 1.06x.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        padding = _Padding(mod)
        return rewrite_relax_funcs(mod, padding, padding.start)


@mutator
class _Padding(PyExprMutator):
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.uses: Counter[relax.Var] = Counter()
        self.bound: dict[relax.Var, relax.Expr] = {}
        self.shared: dict[tuple[Any, ...], relax.Var] = {}  # masks and tails, which all layers of a model have in common

    def start(self, func: relax.Function) -> None:
        """Begin with a function."""
        self.uses, self.bound, self.shared = count_uses(func), relax.analysis.get_var2val(func), {}

    def visit_dataflow_block_(self, block: relax.DataflowBlock) -> relax.DataflowBlock:
        self.shared = {}  # no other block sees what is made in this one
        return super().visit_dataflow_block_(block)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        match = match_attention(call, self.uses, self.bound)
        call = self.visit_expr_post_order(call)
        if match is None or match.shared:
            return call
        sizes = padded(*match.sizes, tvm.target.Target.current())
        return self.pad(match, call, *sizes) if sizes else call

    def pad(self, match: AttentionMatch, call: relax.Call, rows: Any, length: Any) -> relax.Expr:
        """Return the value of attention, computed for `rows` rows and `length` keys."""
        own_rows, own_length, _ = match.sizes
        scores = self.scores(match.chain, (own_rows, own_length), (rows, length))
        if not _equal(own_length, length):
            scores = self.builder_.emit(relax.op.add(scores, self.tail(own_length, length)))
        probabilities = self.reemit(match.call.args[0], {match.scores: scores})
        values = self.pad_to(call.args[1], -2, length)
        result = relax.op.matmul(probabilities, values, "float32")
        if _equal(own_rows, rows):
            return result
        result = self.builder_.emit(result)
        return relax.op.strided_slice(result, [len(result.ty.shape) - 2], [0], [own_rows], assume_inbound=True)

    def scores(self, chain: list[relax.Var], own: Sizes, sizes: Sizes) -> relax.Var:
        """Return scores of padded queries and keys, and what is done with them, on padded masks."""
        call = self.bound[chain[0]]
        if len(chain) == 1:
            queries, keys = (self.visit_expr(arg) for arg in call.args)
            operands = self.pad_to(queries, -2, sizes[0]), self.pad_to(keys, -1, sizes[1])
            return self.builder_.emit(relax.op.matmul(*operands, call.attrs.out_dtype))
        inner = self.scores(chain[1:], own, sizes)
        args = [inner if arg.same_as(chain[1]) else self.mask(self.visit_expr(arg), own, sizes) for arg in call.args]
        return self.builder_.emit(relax.Call(call.op, args, call.attrs, call.ty_args))

    def mask(self, mask: relax.Expr, own: Sizes, sizes: Sizes) -> relax.Expr:
        """Return a mask, or a scale, with more rows and keys where it has the scores' own."""
        key = (mask, *map(str, sizes))
        if isinstance(mask, relax.Var) and key in self.shared:
            return self.shared[key]
        padded, shape = mask, list(mask.ty.shape)
        for axis in (-1, -2):
            if len(shape) >= -axis and _equal(shape[axis], own[axis]):
                padded = self.pad_to(padded, axis, sizes[axis])
        if isinstance(mask, relax.Var):
            self.shared[key] = padded
        return padded

    def reemit(self, var: relax.Var, known: dict[relax.Var, relax.Var]) -> relax.Var:
        """Emit what leads from the scores to `var` once more, for other scores."""
        if var not in known:
            call = self.bound[var]
            args = [self.reemit(arg, known) if self.depends(arg, known) else self.visit_expr(arg) for arg in call.args]
            known[var] = self.builder_.emit(relax.Call(call.op, args, call.attrs, call.ty_args))
        return known[var]

    def depends(self, arg: relax.Expr, known: dict[relax.Var, relax.Var]) -> bool:
        """Whether an argument is made of what is known."""
        if not isinstance(arg, relax.Var) or arg in known:
            return arg in known
        call = self.bound.get(arg)
        return isinstance(call, relax.Call) and any(self.depends(inner, known) for inner in call.args)

    def pad_to(self, x: relax.Expr, axis: int, size: Any) -> relax.Expr:
        """Return `x` with its last place along an axis again until there are `size`."""
        if _equal(x.ty.shape[axis], size):
            return x
        place = len(x.ty.shape) + axis
        if isinstance(size, (int, tirx.IntImm)):
            # as below, of which TVM would fold the constant places into the function that it becomes a part of
            widths = [0, 0] * len(x.ty.shape)
            widths[2 * place + 1] = int(size) - int(x.ty.shape[axis])
            return self.builder_.emit(relax.op.nn.pad(x, widths, "replicate"))
        places = self.builder_.emit(relax.op.arange(0, size, 1, "int64"))
        return self.builder_.emit(relax.op.take(x, places, place, mode="clip"))

    def tail(self, own: Any, length: Any) -> relax.Var:
        """Return what is added to scores (length,): 0, and -inf from the `own`-th key on."""
        key = ("tail", str(own), str(length))
        if key not in self.shared:
            parts = [
                relax.op.full([own], _float(0.0), "float32"),
                relax.op.full([length - own], _float(-float("inf")), "float32"),
            ]
            self.shared[key] = self.builder_.emit(relax.op.concat([self.builder_.emit(part) for part in parts], 0))
        return self.shared[key]


def _float(value: float) -> relax.Expr:
    return relax.const(value, "float32")


def _equal(a: Any, b: Any) -> bool:
    return sym.Analyzer().can_prove_equal(tirx.IntImm("int64", a) if isinstance(a, int) else a, b)
