"""LowerDenseOps: balanced_dense and packed_dense --> call_tir of the kernel they name, with its packed weights."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import GenericConst
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.encoding import Array, EncodedWeight
from tvm_balanced.op import BALANCED_DENSE, WEIGHT_ARGS, bias_of, is_dense_op, residual_of
from tvm_balanced.schedules import KERNELS, DenseKernel, SparseKernel, Workload
from tvm_balanced.transform.match_dense import address_of, view


@dataclass(frozen=True)
class LoweredLayer:
    """One call of a dense layer in a model, and the workload that it is for its kernel."""

    layer: str
    workload: Workload


Packed = dict[tuple[Any, ...], list[relax.Expr]]


@tvm.transform.module_pass(opt_level=0, name="LowerDenseOps")
class LowerDenseOps:
    """Lower the two dense operators.

    rewrite: `balanced_dense(x, v, i, bias)` --> `reshape(call_tir(cpu_avx512, (reshape(x), *packed)))`. Calls that share a
    weight share its packed form.

    Parameters
    ----------
    names : dict
        Receives the address of each packed constant and a name made of its layer's.
    lowered : list
        Receives a LoweredLayer for each call, in the order they are computed.
    """

    def __init__(self, names: dict[int, str] | None = None, lowered: list[LoweredLayer] | None = None) -> None:
        self.names: dict[int, str] = {} if names is None else names
        self.lowered = [] if lowered is None else lowered

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        lowering = _Lowering(mod, self.names, self.lowered)
        for var, func in mod.functions_items():
            if isinstance(func, relax.Function):
                lowering.builder_.update_func(var, relax.analysis.remove_all_unused(lowering.visit_expr(func)))
        return lowering.builder_.finalize()


@mutator
class _Lowering(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, names: dict[int, str], lowered: list[LoweredLayer]) -> None:
        super().__init__(mod)
        self.packed: Packed = {}
        self.names, self.lowered = names, lowered

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if not is_dense_op(call):
            return call
        self.lowered.append(LoweredLayer(str(call.attrs["layer"]), workload_of(call)))
        return lower_dense_op(self.builder_, call, self.packed, self.names)


def lower_dense_op(
    builder: relax.BlockBuilder, call: relax.Call, packed: Packed, names: dict[int, str] | None = None
) -> relax.Expr:
    """Return the lowered form of one call.

    Parameters
    ----------
    builder : relax.BlockBuilder
        Where reshapes and the kernel's function go.
    call : relax.Call
        Its weight and bias must be constants.
    packed : dict
        Packed weights of earlier calls, and of this one afterwards.
    names : dict, optional
        Receives address and name of each packed constant.
    """
    residual = residual_of(call)
    constants = list(call.args[1:] if residual is None else call.args[1:-1])
    if not all(isinstance(c, GenericConst) for c in constants):
        raise ValueError(
            f"{call.op.name} of layer {call.attrs['layer']!s} has a weight that is not a constant; bind its parameters first"
        )
    workload, shape = workload_of(call), list(call.args[0].ty.shape)
    m, n = workload.m, workload.n
    arguments = _packed_arguments(call, workload, packed, {} if names is None else names)
    function = builder.add_func(KERNELS[workload.kernel].prim_func(workload), workload.kernel)
    rows = math.prod(shape[:-1], start=tirx.IntImm("int64", 1)) if m is None else tirx.IntImm("int64", m)
    flat = len(shape) == 2
    x = call.args[0] if flat else builder.emit(relax.op.reshape(call.args[0], relax.ShapeExpr([rows, shape[-1]])))
    if residual is not None:
        arguments.append(residual if flat else builder.emit(relax.op.reshape(residual, relax.ShapeExpr([rows, n]))))
    y = relax.call_tir(function, [x, *arguments], relax.TensorType([rows, n], call.ty.dtype))
    return y if flat else relax.op.reshape(builder.emit(y), call.ty.shape)


def workload_of(call: relax.Call) -> Workload:
    """Return the workload that a call of one of the two dense operators is for its kernel."""
    *rows, k = call.args[0].ty.shape
    sparse = call.op.name == BALANCED_DENSE
    return Workload(
        kernel=str(call.attrs["kernel"]),
        m=math.prod(int(d) for d in rows) if all(isinstance(d, tirx.IntImm) for d in rows) else None,
        n=int(call.ty.shape[-1]),
        k=int(k),
        nnz=int(call.attrs["nnz"]) if sparse else 1,
        block=int(call.attrs["block"]) if sparse else 1,
        dtype=str(call.ty.dtype.dtype),
        activation=str(call.attrs["activation"]),
        residual=residual_of(call) is not None,
    )


def _packed_arguments(call: relax.Call, workload: Workload, packed: Packed, names: dict[int, str]) -> list[relax.Expr]:
    """Return weight and bias of a call in its kernel's layout; the bias apart, since layers may share a weight alone."""
    kernel, layer, bias = KERNELS[workload.kernel], str(call.attrs["layer"]), bias_of(call)
    weight = [view(c.value) for c in call.args[1 : 1 + WEIGHT_ARGS[call.op.name]]]
    key = (kernel.name, *(address_of(c.value) for c in call.args[1 : 1 + len(weight)]))
    if key not in packed:
        arrays = _pack(workload, weight)
        packed[key] = [_constant(a, f"{layer}.{part}", names) for part, a in zip(kernel.parts, arrays, strict=True)]
    bias_key = (kernel.name, "bias", workload.n, 0 if bias is None else address_of(bias.value))
    if bias_key not in packed:
        array = np.zeros(workload.n, workload.dtype) if bias is None else view(bias.value)
        packed[bias_key] = [_constant(kernel.pack_bias(array), f"{layer}.bias", names)]
    return packed[key] + packed[bias_key]


def _pack(workload: Workload, weight: list[Array]) -> tuple[Array, ...]:
    kernel = KERNELS[workload.kernel]
    if isinstance(kernel, SparseKernel):
        return kernel.pack(EncodedWeight(weight[0], weight[1], workload.pattern, workload.k))
    assert isinstance(kernel, DenseKernel)
    return kernel.pack(weight[0])


def _constant(array: Array, name: str, names: dict[int, str]) -> relax.Expr:
    constant = relax.const(tvm.runtime.tensor(array))
    names[address_of(constant.value)] = name
    return constant
