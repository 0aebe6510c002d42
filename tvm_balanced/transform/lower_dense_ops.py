"""LowerDenseOps: our dense layers and convolutions --> call_tir of the kernels they name, with their packed weights."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.core.encoding import Array, EncodedWeight, encode
from tvm_balanced.core.mapped_files import release
from tvm_balanced.ops import WEIGHT_ARGS, bias_of, is_dense_op, residual_of
from tvm_balanced.runtime.tensors import address_of, view
from tvm_balanced.schedules import ALL_KERNELS, DenseKernel, SparseKernel, Workload, multi_kernel
from tvm_balanced.schedules.multi_kernel import Variant
from tvm_balanced.transform.dense_calls import matrices_of, variants_of
from tvm_balanced.transform.relax_funcs import rewrite_relax_funcs
from tvm_balanced.transform.share_rounding import SharedRounding


@dataclass(frozen=True)
class LayerCall:
    """A call of a dense layer in a model.

    Parameters
    ----------
    layer : str
        Its name in the model.
    index : int
        The place of its plan among the model's.
    variants : tuple of Variant
        What it is for each of its kernels.
    function : str
        Name of the TensorIR function that computes it, empty before it is lowered.
    weights : tuple of tuples of int
        For each variant the addresses of its packed weight and bias, empty before it is lowered.
    times : int
        How often it runs in a call of the model: in a recurrent layer once for every step.
    """

    layer: str
    index: int
    variants: tuple[Variant, ...]
    function: str = ""
    weights: tuple[tuple[int, ...], ...] = ()
    times: int = 1

    @classmethod
    def of(cls, call: relax.Call) -> "LayerCall":
        """Return what a call of one of the operators says."""
        return cls(str(call.attrs["layer"]), int(call.attrs["index"]), variants_of(call))


Packed = dict[tuple[Any, ...], list[relax.Expr]]
Deferred = Mapping[int, Array]  # weights by the address of the constant that stands for them, see RewriteBalancedDense


@tvm.transform.module_pass(opt_level=0, name="LowerDenseOps")
class LowerDenseOps:
    """Lower dense layers and convolutions.

    rewrite: `balanced_dense(x, v, i, bias)` --> `reshape(call_tir(cpu_avx512, (reshape(x), *packed)))`. Calls that share a
    weight share its packed form. Where several kernels compute a layer, each gets a packed form of its own. Rows of x that two
    layers or more would round alike are rounded once, before the first of them: `call_tir(cpu_avx512_i8, (x, *packed))` -->
    `call_tir(cpu_avx512_i8, (values, step, zero, *packed))` with `values, step, zero = call_tir(round_rows, (reshape(x),))`.

    Parameters
    ----------
    names : dict
        Receives the address of each packed constant and a name made of its layer's.
    deferred : mapping, optional
        Weights that RewriteBalancedDense left where they are.

    Attributes
    ----------
    calls : list of LayerCall
        After the pass: each call of a dense layer, in the order they are computed.
    """

    def __init__(self, names: dict[int, str] | None = None, deferred: Deferred | None = None) -> None:
        self.names: dict[int, str] = {} if names is None else names
        self.deferred: Deferred = {} if deferred is None else deferred
        self.calls: list[LayerCall] = []

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        lowering = _Lowering(mod, self.names, self.deferred)
        mod = rewrite_relax_funcs(mod, lowering, lowering.start)
        self.calls = lowering.calls
        return mod


@mutator
class _Lowering(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, names: dict[int, str], deferred: Deferred) -> None:
        super().__init__(mod)
        self.packed: Packed = {}
        self.names, self.deferred = names, deferred
        self.calls: list[LayerCall] = []
        self.sharing = SharedRounding()

    def start(self, func: relax.Function) -> None:
        """Begin with a function."""
        self.sharing = SharedRounding.of(func)

    def visit_dataflow_block_(self, block: relax.DataflowBlock) -> relax.DataflowBlock:
        self.sharing.begin()  # no other block sees what is made in this one
        return super().visit_dataflow_block_(block)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        given, call = call, self.visit_expr_post_order(call)
        if not is_dense_op(call):
            return call
        rows = self.sharing.rounded(self.builder_, given, call)
        lowered, layer_call = lower_dense_op(self.builder_, call, self.packed, self.names, rows, self.deferred)
        self.calls.append(layer_call)
        return lowered


def lower_dense_op(
    builder: relax.BlockBuilder,
    call: relax.Call,
    packed: Packed,
    names: dict[int, str] | None = None,
    rows: Sequence[relax.Expr] | None = None,
    deferred: Deferred | None = None,
) -> tuple[relax.Expr, LayerCall]:
    """Return the lowered form of one call, and what is known of it.

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
    rows : sequence of relax expressions, optional
        The rounded rows of x, for a kernel that is given them.
    deferred : mapping, optional
        As LowerDenseOps takes it.
    """
    residual = residual_of(call)
    constants = list(call.args[1:] if residual is None else call.args[1:-1])
    if not all(isinstance(c, GenericConst) for c in constants):
        raise ValueError(
            f"{call.op.name} of layer {call.attrs['layer']!s} has a weight that is not a constant; bind its parameters first"
        )
    known = LayerCall.of(call)
    variants = known.variants
    weights = _packed_weights(call, variants, packed, {} if names is None else names, deferred or {})
    arguments = [constant for constants in weights for constant in constants]
    built = variants if rows is None else tuple(replace(v, workload=replace(v.workload, rounded=True)) for v in variants)
    function = builder.add_func(multi_kernel.prim_func(built), "_or_".join(v.workload.kernel for v in variants))
    (x, made), flat = matrices_of(call), len(call.ty.shape) == 2

    def reshaped(value: relax.Expr, shape: list[Any]) -> relax.Expr:
        return value if flat else builder.emit(relax.op.reshape(value, relax.ShapeExpr(shape)))

    given = [reshaped(call.args[0], x)] if rows is None else rows
    arguments = [*given, *arguments, *([] if residual is None else [reshaped(residual, made)])]
    y = relax.call_tir(function, arguments, relax.TensorType(made, call.ty.dtype))
    addresses = tuple(tuple(address_of(constant.value) for constant in constants) for constants in weights)
    known = replace(known, function=str(function.name_hint), weights=addresses)
    return (y if flat else relax.op.reshape(builder.emit(y), call.ty.shape)), known


_left_alone: ContextVar[bool] = ContextVar("left_alone", default=False)


@contextmanager
def left_alone() -> Iterator[None]:
    """Within it, passes that legalize operators leave ours as they are."""
    token = _left_alone.set(True)
    try:
        yield
    finally:
        _left_alone.reset(token)


def legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Return the lowered form of one call, for passes that legalize operators; its constants get no names."""
    return call if _left_alone.get() else lower_dense_op(builder, call, {})[0]


def _packed_weights(
    call: relax.Call, variants: tuple[Variant, ...], packed: Packed, names: dict[int, str], deferred: Deferred
) -> list[list[relax.Expr]]:
    """Return weight and bias of a call in each kernel's layout; the bias apart, since layers may share a weight alone."""
    layer, bias, weights = str(call.attrs["layer"]), bias_of(call), []
    constants = call.args[1 : 1 + WEIGHT_ARGS[call.op.name]]
    addresses = [address_of(c.value) for c in constants]
    weight = [deferred[a] if a in deferred else view(c.value) for a, c in zip(addresses, constants, strict=True)]
    for place, (workload, kernel) in enumerate((variant.workload, variant.kernel) for variant in variants):
        prefix = f"{layer}.{kernel.name}" if place else layer
        conv = workload.conv  # of which a layout depends on neither sizes nor strides
        key = (kernel.name, workload.pattern, conv and (conv.kernel, conv.groups, conv.order), *addresses)
        if key not in packed:
            arrays = _pack(workload, weight)
            packed[key] = [_constant(a, f"{prefix}.{part}", names) for part, a in zip(kernel.parts, arrays, strict=True)]
            for array in weight:
                release(array)
        bias_key = (kernel.name, "bias", workload.n, 0 if bias is None else address_of(bias.value))
        if bias_key not in packed:
            array = np.zeros(workload.n, workload.dtype) if bias is None else view(bias.value)
            packed[bias_key] = [_constant(kernel.pack_bias(array), f"{prefix}.bias", names)]
        weights.append(packed[key] + packed[bias_key])
    return weights


def _pack(workload: Workload, weight: list[Array]) -> tuple[Array, ...]:
    """Return a weight, (values, indices) in the workload's pattern or dense, in the layout of the workload's kernel."""
    kernel = ALL_KERNELS[workload.kernel]
    if isinstance(kernel, DenseKernel):
        return kernel.pack_for(weight[0], workload)
    assert isinstance(kernel, SparseKernel)
    if len(weight) == 1:
        return kernel.pack_for(encode(weight[0], workload.pattern), workload)
    return kernel.pack_for(EncodedWeight(weight[0], weight[1], workload.pattern, workload.k), workload)


def _constant(array: Array, name: str, names: dict[int, str]) -> relax.Expr:
    constant = relax.const(tvm.runtime.tensor(array))
    names[address_of(constant.value)] = name
    return constant
