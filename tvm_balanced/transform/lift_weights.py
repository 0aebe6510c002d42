"""LiftWeights: constants become parameters of public functions, so that weights live beside the library, mapped from files."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.runtime.tensors import address_of, view

SMALLEST = 256  # bytes; smaller constants stay in the library, where scalars can be folded into code


@dataclass
class LiftedWeight:
    """One constant that became a parameter.

    Parameters
    ----------
    name : str
    tensor : tvm.runtime.Tensor
        On the CPU.
    functions : set of str
        Names of the functions that take it, each in the order of all weights.
    """

    name: str
    tensor: tvm.runtime.Tensor
    functions: set[str] = field(default_factory=set)


@tvm.transform.module_pass(opt_level=0, name="LiftWeights")
class LiftWeights:
    """Turn every constant of at least 256 bytes in public functions into a parameter after the inputs.

    rewrite: `def main(x): f(x, const)` --> `def main(x, w): f(x, w)`. A constant that is used twice is lifted once, in however
    many functions; a function takes only the weights that it uses. Functions of one model share their weights' memory, but what
    was folded for each of them, as a transposed weight, is made once for each: constants without a name are one where they are
    equal.

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
        constants, mod = _Constants(self.names), mod.clone()
        for var, func in mod.functions_items():
            if isinstance(func, relax.Function) and "global_symbol" in (func.attrs or {}):
                mod[var] = _lifted(mod, func, var.name_hint, constants)
        self.weights = constants.weights
        return mod


class _Constants:
    """The constants of a module, each once."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.weights: list[LiftedWeight] = []
        self._places: dict[tuple[Any, ...], int] = {}

    def place(self, constant: GenericConst) -> int:
        """Return which weight a constant is."""
        address, array = address_of(constant.value), view(constant.value)
        known: int | bytes = address if address in self.names else hashlib.sha256(array.reshape(-1).view(np.uint8).data).digest()
        key = (known, array.shape, str(constant.ty.dtype))
        if key not in self._places:
            self._places[key] = len(self.weights)
            self.weights.append(LiftedWeight(self.names.get(address, f"constant_{len(self.weights)}"), constant.value))
        return self._places[key]


def _lifted(mod: tvm.IRModule, func: relax.Function, name: str, constants: _Constants) -> relax.Function:
    """Return one function with its constants as parameters."""
    lifter = _Lifter(mod, constants)
    func = lifter.visit_expr(func)
    taken = sorted(lifter.params)
    for place in taken:
        constants.weights[place].functions.add(name)
    params = [*func.params, *(lifter.params[place] for place in taken)]
    lifted = relax.Function(params, func.body, func.ret_ty, func.is_pure, func.attrs)
    return lifted.with_attr("num_input", len(params) - len(taken))


def places_of(weights: Sequence[LiftedWeight], function: str) -> tuple[int, ...]:
    """Return which weights a function takes, in the order of its parameters."""
    return tuple(place for place, weight in enumerate(weights) if function in weight.functions)


@mutator
class _Lifter(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, constants: _Constants) -> None:
        super().__init__(mod)
        self.constants = constants
        self.params: dict[int, relax.Var] = {}

    def visit_generic_const_(self, op: GenericConst) -> relax.Expr:
        if not isinstance(op.ty, relax.TensorType) or view(op.value).nbytes < SMALLEST:
            return op
        place = self.constants.place(op)
        if place not in self.params:
            self.params[place] = relax.Var(_identifier(self.constants.weights[place].name), op.ty)
        return self.params[place]


def _identifier(name: str) -> str:
    """Return a name as C takes it, for kernels call their buffers after it: in nn.Sequential layers are numbers."""
    plain = re.sub(r"\W", "_", name)
    return plain if plain.isidentifier() else f"weight_{plain}"
