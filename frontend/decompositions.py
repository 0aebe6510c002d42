"""Operators that TVM's importer does not take, or takes wrongly, written in others by torch."""

import collections.abc
import contextlib
import functools
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
from torch import _ops
from torch._export import utils
from torch.export import ExportedProgram, default_decompositions, exported_program
from torch.utils import _pytree as pytree

from tvm_balanced.frontend.exporting import EXPORTING
from tvm_balanced.frontend.grid_sample import grid_sampler_2d
from tvm_balanced.frontend.recurrent import RECURRENT

aten = torch.ops.aten
# torch has these, and core ATen keeps them all the same.
OF_TORCH = (aten.linalg_vector_norm.default, aten.erfc.default)
# Kept whole: in core ATen a linear layer is an addmm on a flattened x, or a broadcast weight in attention's output projection,
# where no pattern finds it; a recurrent layer is as many steps as the example has.
KEPT = (aten.linear.default, *RECURRENT)
BILINEAR = [[1, 3], [0], [1, 2], [2, 3]]  # y[b, o] = sum of x[b, i] * weight[o, i, j] * z[b, j] over i and j


LISTING = "_materialize_cpp_cia_ops"  # of torch._export.utils, since torch 2.6: makes a Python object of every operator of C++


@contextlib.contextmanager
def listed_once() -> Iterator[None]:
    """Let torch list its operators once while the block runs, in which nothing registers one.

    By itself torch 2.13 does so 50 times for each model, for each namespace and pass: 0.3 s, half of what a small model takes.
    """
    if not hasattr(utils, LISTING):
        yield
        return
    with EXPORTING, mock.patch.object(utils, LISTING, functools.cache(getattr(utils, LISTING))):
        yield


@contextlib.contextmanager
def types_kept() -> Iterator[None]:
    """Let torch annotate with typing's Callable, which keeps the types that it makes, while the block runs.

    For each model torch 2.13 registers 7000 functions, with annotations of that of collections.abc, which makes each anew: 20
    ms of the 600 that a small model takes.
    """
    if getattr(_ops, "Callable", None) is not collections.abc.Callable:
        yield
        return
    with EXPORTING, mock.patch.object(_ops, "Callable", typing.Callable):
        yield


# Of torch.export.exported_program: the devices for which torch 2.13 registers each operator of C++ anew, twenty-one of them.
DEVICES = ("_AUTOGRAD_ALIAS_BACKEND_KEYS_TO_OVERRIDE", "_BACKEND_KEYS_TO_OVERRIDE")


@contextlib.contextmanager
def devices_of(program: ExportedProgram) -> Iterator[None]:
    """Let torch register its operators for the devices of `program` alone while the block runs, if all of it is on the CPU.

    By itself torch 2.13 makes 11,000 registrations for each model, nearly all for devices that the machine has not: a tenth of
    what a small model takes.
    """
    values = (leaf for node in program.graph.nodes for leaf in pytree.tree_leaves(node.meta.get("val")))
    devices = {value.device.type for value in values if isinstance(value, torch.Tensor)}
    if devices - {"cpu", "meta"} or not all(hasattr(exported_program, name) for name in DEVICES):
        yield
        return
    with EXPORTING, contextlib.ExitStack() as stack:
        for name in DEVICES:
            keys = [key for key in getattr(exported_program, name) if key.name.removeprefix("Autograd") in ("CPU", "Meta")]
            stack.enter_context(mock.patch.object(exported_program, name, keys))
        yield


OVERRIDE = "_override_composite_implicit_decomp"  # of torch.export.exported_program: registers what is written in others
DEFAULT = "_special_op_to_decompose_cia"  # of torch._export.utils: calls what an operator of C++ does by itself


@contextlib.contextmanager
def own_kept() -> Iterator[None]:
    """Let torch register no decomposition that an operator of C++ has by itself, while the block runs.

    By itself torch 2.13 does so for a thousand operators of each model, a fifth of the time of `run_decompositions`. What is
    left are those that stay whole, and those that we write otherwise.
    """
    register = getattr(exported_program, OVERRIDE, None)
    if register is None:
        yield
        return

    def others(table: Mapping[Any, Any]) -> Any:
        return register({op: rule for op, rule in table.items() if _name(rule) != DEFAULT})

    with EXPORTING, mock.patch.object(exported_program, OVERRIDE, others):
        yield


def _name(rule: Any) -> str:
    """Return the name of what a partial function calls; empty for any other function."""
    return str(getattr(getattr(rule, "func", None), "__name__", ""))


def decompositions() -> dict[Any, Any]:
    """Return the table of decompositions: everything to core ATen except what is `KEPT`, and what the importer does not take."""
    table: Mapping[Any, Any] = default_decompositions()
    ours = {op: table[op] for op in table if op not in KEPT}
    return ours | torch._decomp.get_decompositions(OF_TORCH) | OURS | _of_transformers()


def hypot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The root of x^2 + y^2 by way of numbers up to 1, whose squares neither overflow nor vanish; torch leaves it whole."""
    largest = torch.maximum(x.abs(), y.abs())
    scale = torch.where(largest == 0, 1.0, largest)
    length = scale * ((x / scale).square() + (y / scale).square()).sqrt()
    return torch.where(x.isinf() | y.isinf(), float("inf"), length).to(largest.dtype)


def cdist(x: torch.Tensor, y: torch.Tensor, p: float, _compute_mode: int | None = None) -> torch.Tensor:
    """Distances between rows of two tensors, of few rows: of many, torch itself makes a product of matrices."""
    return torch.linalg.vector_norm(x.unsqueeze(-2) - y.unsqueeze(-3), p, -1)


def of_floats(operator: Any) -> Any:
    """Return torch's decomposition of an operator for floats alone; one of integers stays for its converter to refuse."""
    decomposed = torch._decomp.decomposition_table[operator]

    def run(x: torch.Tensor, *options: Any) -> Any:
        return decomposed(x, *options) if x.is_floating_point() else NotImplemented

    return run


def _of_transformers() -> dict[Any, Any]:
    """Return what is for operators that transformers adds to torch once its mixtures of experts are loaded."""
    fallback = getattr(torch.ops.transformers, "grouped_mm_fallback", None)
    return {} if fallback is None else {fallback.default: grouped_mm}


def histc(x: torch.Tensor, bins: int = 100, min: float = 0, max: float = 0) -> torch.Tensor:
    """How many elements of x lie in each of some bins from min to max, or over all of x."""
    flat = x.reshape(-1)
    low, high = torch.full((), min, dtype=x.dtype), torch.full((), max, dtype=x.dtype)
    if min == max:
        low, high = flat.amin(), flat.amax()
        low, high = torch.where(low == high, low - 1, low), torch.where(low == high, high + 1, high)
    number = ((flat - low) / (high - low) * bins).floor().clamp(max=bins - 1)
    hit = (number[None] == torch.arange(bins)[:, None]) & (flat >= low) & (flat <= high)
    return hit.sum(1).to(x.dtype)


def grouped_mm(
    x: torch.Tensor,
    weights: torch.Tensor,
    ends: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Any:
    """Rows of x (M, K) up to each end times an expert's weight each (E, K, N): every expert computes all rows."""
    if x.dim() == 3 and weights.dim() == 3 and ends is None:
        y = torch.bmm(x, weights)
    elif x.dim() == 2 and weights.dim() == 3 and ends is not None:
        rows, y = torch.arange(x.shape[0])[:, None], torch.zeros(x.shape[0], weights.shape[2], dtype=x.dtype)
        for expert in reversed(range(weights.shape[0])):
            y = torch.where(rows < ends[expert], torch.mm(x, weights[expert]), y)
    else:
        return NotImplemented
    return (y if bias is None else y + bias).to(out_dtype or x.dtype)


def trilinear(x: Any, y: Any, z: Any, at_x: Any, at_y: Any, at_z: Any, over: Any, unroll_dim: int = 1) -> torch.Tensor:
    """Sum of the products of three tensors; as nn.Bilinear has it, a dense layer on the products of two."""
    if [list(places) for places in (at_x, at_y, at_z, over)] == BILINEAR:
        return torch.nn.functional.linear((x[:, :, None] * z[:, None]).flatten(1), y.flatten(1))
    for places, tensor in ((at_x, "x"), (at_y, "y"), (at_z, "z")):
        for place in places:
            x, y, z = (t.unsqueeze(place) if name == tensor else t for name, t in (("x", x), ("y", y), ("z", z)))
    return (x * y * z).sum(over)


def encoder_layer(
    x: torch.Tensor, width: int, heads: int, qkv_weight: Any, qkv_bias: Any, out_weight: Any, out_bias: Any, gelu: bool,
    norm_first: bool, eps: float, norm_weight_1: Any, norm_bias_1: Any, norm_weight_2: Any, norm_bias_2: Any, weight_1: Any,
    bias_1: Any, weight_2: Any, bias_2: Any, mask: Any = None, mask_type: int | None = None,
) -> Any:  # fmt: skip
    """nn.TransformerEncoderLayer in one operator, PyTorch's fast path, which torch.compile keeps; x is (batch, tokens, width)."""
    if mask is not None:
        return NotImplemented
    f = torch.nn.functional

    def attended(x: torch.Tensor) -> torch.Tensor:
        q, k, v = f.linear(x, qkv_weight, qkv_bias).reshape(*x.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
        return f.linear(f.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), out_weight, out_bias)

    def fed(x: torch.Tensor) -> torch.Tensor:
        return f.linear((f.gelu if gelu else f.relu)(f.linear(x, weight_1, bias_1)), weight_2, bias_2)

    def normed(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return f.layer_norm(x, (width,), weight, bias, eps)

    if norm_first:
        x = x + attended(normed(x, norm_weight_1, norm_bias_1))
        return x + fed(normed(x, norm_weight_2, norm_bias_2))
    x = normed(x + attended(x), norm_weight_1, norm_bias_1)
    return normed(x + fed(x), norm_weight_2, norm_bias_2)


def view(x: torch.Tensor, size: Sequence[int]) -> Any:
    """View a tensor of whatever strides: decomposed attention may have other ones than the export saw, as in GPT-2.

    TVM's tensors have no strides, so the copy costs nothing there.
    """
    return NotImplemented if x.is_contiguous() else x.contiguous().view(size)


OURS: dict[Any, Any] = {
    aten.view.default: view,
    aten.grid_sampler_2d.default: grid_sampler_2d,
    **{operator: of_floats(operator) for operator in (aten.upsample_bicubic2d.vec, aten.affine_grid_generator.default)},
    aten._cdist_forward.default: cdist,
    aten.hypot.default: hypot,
    aten.histc.default: histc,
    aten._trilinear.default: trilinear,
    aten._transformer_encoder_layer_fwd.default: encoder_layer,
    **({aten._grouped_mm.default: grouped_mm} if hasattr(aten, "_grouped_mm") else {}),
}
