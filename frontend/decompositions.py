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
SUM, MEAN = 0, 1  # of an embedding bag; 2 is the largest
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


def embedding_bag(
    table: torch.Tensor,
    places: torch.Tensor,
    offsets: torch.Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum, mean or largest of the rows of each bag, which begins at its offset; what torch returns for its gradient is empty.

    Rows are added where they belong, in float32: a product with a matrix of zeros and ones takes a multiply-add for every row
    and bag.
    """
    starts = offsets[:-1] if include_last_offset else offsets
    number = (torch.arange(places.shape[0])[None] >= starts[:, None]).sum(0) - 1
    counted = places != padding_idx
    inside = (number[None] == torch.arange(starts.shape[0])[:, None]) & counted[None]
    rows = table[places] if weights is None else table[places] * weights[:, None]
    count = inside.sum(1)[:, None]
    if mode in (SUM, MEAN):
        added = torch.where(counted[:, None], rows, torch.zeros((), dtype=rows.dtype)).to(
            torch.promote_types(rows.dtype, torch.float32)
        )
        y = torch.zeros(starts.shape[0], table.shape[1], dtype=added.dtype).index_put((number,), added, accumulate=True)
        y = y / count.clamp(min=1).to(added.dtype) if mode == MEAN else y
    else:
        largest = torch.where(inside[:, :, None], rows[None], -float("inf")).amax(1)
        y = torch.where(count > 0, largest, 0.0)
    empty = torch.zeros(0, dtype=places.dtype)
    return y.to(table.dtype), empty, empty, empty


def trilinear(x: Any, y: Any, z: Any, at_x: Any, at_y: Any, at_z: Any, over: Any, unroll_dim: int = 1) -> torch.Tensor:
    """Sum of the products of three tensors; as nn.Bilinear has it, a dense layer on the products of two."""
    if [list(places) for places in (at_x, at_y, at_z, over)] == BILINEAR:
        return torch.nn.functional.linear((x[:, :, None] * z[:, None]).flatten(1), y.flatten(1))
    for places, tensor in ((at_x, "x"), (at_y, "y"), (at_z, "z")):
        for place in places:
            x, y, z = (t.unsqueeze(place) if name == tensor else t for name, t in (("x", x), ("y", y), ("z", z)))
    return (x * y * z).sum(over)


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
    aten._embedding_bag.default: embedding_bag,
    aten._embedding_bag_forward_only.default: embedding_bag,
    aten._trilinear.default: trilinear,
    **({aten._grouped_mm.default: grouped_mm} if hasattr(aten, "_grouped_mm") else {}),
}
