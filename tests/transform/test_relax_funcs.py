import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs


@I.ir_module(s_tir=True)
class Before:
    @R.function
    def first(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        with R.dataflow():
            y = R.exp(x)
            z = R.nn.relu(y)
            R.output(z)
        return z

    @R.function
    def second(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        with R.dataflow():
            y = R.nn.relu(x)
            R.output(y)
        return y

    @T.prim_func(s_tir=True)
    def loops(x: T.Buffer((4,), "float32")):
        for i in range(4):
            x[i] = x[i] + T.float32(1)


@I.ir_module(s_tir=True)
class Expected:
    @R.function
    def first(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        with R.dataflow():
            z = R.abs(x)
            R.output(z)
        return z

    @R.function
    def second(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        with R.dataflow():
            y = R.abs(x)
            R.output(y)
        return y

    @T.prim_func(s_tir=True)
    def loops(x: T.Buffer((4,), "float32")):
        for i in range(4):
            x[i] = x[i] + T.float32(1)


@mutator
class ReluOfInput(PyExprMutator):
    """relu --> abs of the function's input, so that what relu read has no reader left."""

    def start(self, func):
        (self.input,) = func.params

    def visit_call_(self, call):
        call = self.visit_expr_post_order(call)
        return relax.op.abs(self.input) if call.op.name == "relax.nn.relu" else call


def test_each_relax_function_is_rewritten_and_others_are_left():
    changing = ReluOfInput(Before)
    tvm.ir.assert_structural_equal(rewrite_relax_funcs(Before, changing, changing.start), Expected)
