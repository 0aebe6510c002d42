"""LowerDenseOps: balanced_dense and packed_dense --> call_tir of the kernel they name, with its packed weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import GenericConst
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.core.encoding import Array, EncodedWeight, encode
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.ops import BALANCED_DENSE, WEIGHT_ARGS, ByRows, bias_of, is_dense_op, residual_of
from tvm_balanced.runtime.tensors import address_of, view
from tvm_balanced.schedules import KERNELS, DenseKernel, SparseKernel, Workload, multi_kernel
from tvm_balanced.schedules.multi_kernel import Share


@dataclass(frozen=True)
class LoweredLayer:
    """One call of a dense layer in a model, or the part of it that a kernel computes, and what it is for its kernel."""

    layer: str
    share: Share

    @property
    def workload(self) -> Workload:
        """What it is for its kernel."""
        return self.share.workload


Packed = dict[tuple[Any, ...], list[relax.Expr]]


@tvm.transform.module_pass(opt_level=0, name="LowerDenseOps")
class LowerDenseOps:
    """Lower the two dense operators.

    rewrite: `balanced_dense(x, v, i, bias)` --> `reshape(call_tir(cpu_avx512, (reshape(x), *packed)))`. Calls that share a
    weight share its packed form. Where several kernels compute a layer, each gets a packed form of its own.

    Parameters
    ----------
    names : dict
        Receives the address of each packed constant and a name made of its layer's.
    lowered : list
        Receives a LoweredLayer for each call and kernel, in the order they are computed.
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
        self.lowered.extend(LoweredLayer(str(call.attrs["layer"]), share) for share in shares_of(call))
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
    shares, shape = shares_of(call), list(call.args[0].ty.shape)
    m, n = shares[0].workload.m, shares[0].workload.n
    arguments = _packed_arguments(call, shares, packed, {} if names is None else names)
    function = builder.add_func(multi_kernel.prim_func(shares), "_or_".join(share.workload.kernel for share in shares))
    rows = math.prod(shape[:-1], start=tirx.IntImm("int64", 1)) if m is None else tirx.IntImm("int64", m)
    flat = len(shape) == 2
    x = call.args[0] if flat else builder.emit(relax.op.reshape(call.args[0], relax.ShapeExpr([rows, shape[-1]])))
    if residual is not None:
        arguments.append(residual if flat else builder.emit(relax.op.reshape(residual, relax.ShapeExpr([rows, n]))))
    y = relax.call_tir(function, [x, *arguments], relax.TensorType([rows, n], call.ty.dtype))
    return y if flat else relax.op.reshape(builder.emit(y), call.ty.shape)


_left_alone: ContextVar[bool] = ContextVar("left_alone", default=False)


@contextmanager
def left_alone() -> Iterator[None]:
    """Within it, passes that legalize operators leave both of ours as they are."""
    token = _left_alone.set(True)
    try:
        yield
    finally:
        _left_alone.reset(token)


def legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Return the lowered form of one call, for passes that legalize operators; its constants get no names."""
    return call if _left_alone.get() else lower_dense_op(builder, call, {})


def shares_of(call: relax.Call) -> tuple[Share, ...]:
    """Return what a call of one of the two dense operators is for its kernel, or for each of its kernels."""
    if not call.attrs["by_rows"]:
        sparse = call.op.name == BALANCED_DENSE
        pattern = BalancedPattern(int(call.attrs["nnz"]), int(call.attrs["block"])) if sparse else None
        return (Share(_workload(call, str(call.attrs["kernel"]), pattern)),)
    parts = ByRows.read(str(call.attrs["by_rows"]))
    lasts = [*(part.first - 1 for part in parts[1:]), None]
    return tuple(
        Share(_workload(call, part.kernel, part.pattern), (part.first, last)) for part, last in zip(parts, lasts, strict=True)
    )


def _workload(call: relax.Call, kernel: str, pattern: BalancedPattern | None) -> Workload:
    *rows, k = call.args[0].ty.shape
    return Workload(
        kernel=kernel,
        m=math.prod(int(d) for d in rows) if all(isinstance(d, tirx.IntImm) for d in rows) else None,
        n=int(call.ty.shape[-1]),
        k=int(k),
        nnz=pattern.nnz if pattern else 1,
        block=pattern.block if pattern else 1,
        dtype=str(call.ty.dtype.dtype),
        activation=str(call.attrs["activation"]),
        residual=residual_of(call) is not None,
    )


def _packed_arguments(call: relax.Call, shares: tuple[Share, ...], packed: Packed, names: dict[int, str]) -> list[relax.Expr]:
    """Return weight and bias of a call in each kernel's layout; the bias apart, since layers may share a weight alone."""
    layer, bias, arguments = str(call.attrs["layer"]), bias_of(call), []
    weight = [view(c.value) for c in call.args[1 : 1 + WEIGHT_ARGS[call.op.name]]]
    addresses = [address_of(c.value) for c in call.args[1 : 1 + len(weight)]]
    for place, (workload, kernel) in enumerate((share.workload, share.kernel) for share in shares):
        prefix = f"{layer}.{kernel.name}" if place else layer
        key = (kernel.name, workload.pattern, *addresses)
        if key not in packed:
            arrays = _pack(call, workload, weight)
            packed[key] = [_constant(a, f"{prefix}.{part}", names) for part, a in zip(kernel.parts, arrays, strict=True)]
        bias_key = (kernel.name, "bias", workload.n, 0 if bias is None else address_of(bias.value))
        if bias_key not in packed:
            array = np.zeros(workload.n, workload.dtype) if bias is None else view(bias.value)
            packed[bias_key] = [_constant(kernel.pack_bias(array), f"{prefix}.bias", names)]
        arguments += packed[key] + packed[bias_key]
    return arguments


def _pack(call: relax.Call, workload: Workload, weight: list[Array]) -> tuple[Array, ...]:
    """Return the weight of a call, (values, indices) or dense, in the layout of a workload's kernel."""
    kernel = KERNELS[workload.kernel]
    if call.op.name != BALANCED_DENSE:
        assert isinstance(kernel, DenseKernel)
        return kernel.pack(weight[0])
    own = BalancedPattern(int(call.attrs["nnz"]), int(call.attrs["block"]))
    encoded = EncodedWeight(weight[0], weight[1], own, workload.k)
    if isinstance(kernel, SparseKernel):
        return kernel.pack(encoded if own == workload.pattern else encode(encoded.decode(), workload.pattern))
    assert isinstance(kernel, DenseKernel)
    return kernel.pack(encoded.decode())


def _constant(array: Array, name: str, names: dict[int, str]) -> relax.Expr:
    constant = relax.const(tvm.runtime.tensor(array))
    names[address_of(constant.value)] = name
    return constant
