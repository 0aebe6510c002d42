"""LiftWeights: constants become parameters of `main`, so that weights live beside the library and can be memory-mapped."""

import re
from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.runtime.tensors import address_of, view

SMALLEST = 256  # bytes; smaller constants stay in the library, where scalars can be folded into code


@dataclass(frozen=True)
class LiftedWeight:
    """One parameter that stands for a constant: its name and its tensor on the CPU."""

    name: str
    tensor: tvm.runtime.Tensor


@tvm.transform.module_pass(opt_level=0, name="LiftWeights")
class LiftWeights:
    """Turn every constant of at least 256 bytes in `main` into a parameter after the inputs.

    rewrite: `def main(x): f(x, const)` --> `def main(x, w): f(x, w)`. A constant that is used twice is lifted once.

    Parameters
    ----------
    names : dict
        Address of a constant to the name its parameter gets; "constant_3" where there is none.

    Attributes
    ----------
    weights : list of LiftedWeight
        After the pass: one for each new parameter, in order.
    """

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.weights: list[LiftedWeight] = []

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        lifter = _Lifter(mod, self.names)
        main = lifter.visit_expr(mod["main"])
        params = [*main.params, *(var for var, _ in lifter.lifted.values())]
        main = relax.Function(params, main.body, main.ret_ty, main.is_pure, main.attrs)
        main = main.with_attr("num_input", len(params) - len(lifter.lifted))
        lifter.builder_.update_func(mod.get_global_var("main"), main)
        self.weights = [weight for _, weight in lifter.lifted.values()]
        return lifter.builder_.finalize()


@mutator
class _Lifter(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, names: dict[int, str]) -> None:
        super().__init__(mod)
        self.names = names
        self.lifted: dict[tuple[int, tuple[int, ...], str], tuple[relax.Var, LiftedWeight]] = {}

    def visit_generic_const_(self, op: GenericConst) -> relax.Expr:
        if not isinstance(op.ty, relax.TensorType):
            return op
        array = view(op.value)
        if array.nbytes < SMALLEST:
            return op
        address = address_of(op.value)
        key = (address, array.shape, str(op.ty.dtype))
        if key not in self.lifted:
            name = self.names.get(address, f"constant_{len(self.lifted)}")
            self.lifted[key] = (relax.Var(_identifier(name), op.ty), LiftedWeight(name, op.value))
        return self.lifted[key][0]


def _identifier(name: str) -> str:
    """Return a name as C takes it, for kernels call their buffers after it: in nn.Sequential layers are numbers."""
    plain = re.sub(r"\W", "_", name)
    return plain if plain.isidentifier() else f"weight_{plain}"
