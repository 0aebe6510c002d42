"""How far rounding alone may move each output of an exported program: from dtypes, depth and the lengths of sums."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from tvm_balanced.core.tolerance import EXACT, UNIT, Growth
from tvm_balanced.frontend.operator_name import operator_name

# They move values, or take some of them, and round nothing. Tags of torch say so of views alone.
MOVES = frozenset(
    "view reshape permute transpose expand squeeze unsqueeze slice select cat stack split split_with_sizes clone alias "
    "detach copy getitem index gather index_select take embedding where masked_fill constant_pad_nd flip repeat full "
    "full_like scalar_tensor arange neg abs relu maximum minimum amax amin max min clamp max_pool2d_with_indices "
    "max_pool3d_with_indices topk sort slice_scatter index_put scatter unbind chunk lift_fresh_copy diagonal as_strided "
    "tril triu roll".split()
)
PRODUCTS = {"mm": 0, "bmm": 0, "matmul": 0, "linear": 0, "addmm": 1}  # the operand whose last dimension is summed over
ARITHMETIC = frozenset("add sub mul div rsub sqrt reciprocal pow floor ceil round trunc".split())
SUMS = frozenset("convolution sum mean prod cumsum cumprod _to_copy linear_scan".split())
REDUCTIONS = frozenset(  # by name: torch 2.9 and older have no tag for them
    "all amax amin aminmax any argmax argmin count_nonzero linalg_vector_norm logsumexp max mean min nansum norm prod std "
    "std_mean sum var var_mean".split()
)
RECURRENT = frozenset("lstm gru rnn_tanh rnn_relu".split())  # each step is rounded like a product and its gates
UNITS_OF_SERIES = 8  # units of float32 by which exp, erf, tanh and what is made of them may be off


def error_growths(program: ExportedProgram) -> list[Growth]:
    """Return for each output of a decomposed program how its roundings grow.

    The squares of the unit roundoffs of the operators along the worst path to an output are added: independent roundings
    grow like a random walk (Higham and Mary, A new approach to probabilistic rounding error analysis, 2019).
    """
    found: dict[fx.Node, Growth] = {}
    for node in program.graph.nodes:
        operands = [found[operand] for operand in node.all_input_nodes]
        found[node] = _own(node).after(operands) if node.op == "call_function" else EXACT
    by_name = {node.name: growth for node, growth in found.items()}
    return [by_name.get(str(name), EXACT) for name in program.graph_signature.user_outputs]


def _own(node: fx.Node) -> Growth:
    """Return what one operator adds by itself."""
    result = next((v for v in pytree.tree_leaves(node.meta.get("val")) if isinstance(v, torch.Tensor)), None)
    if result is None or not result.is_floating_point():
        return EXACT
    name, dtype = operator_name(node), str(result.dtype).removeprefix("torch.")
    unit = UNIT.get(dtype, UNIT["float32"])
    if name in MOVES or (name == "_to_copy" and _is_widened(node, result)):
        return replace(EXACT, dtype=dtype)
    summed = _summed(node, name, result)
    # sums run in float32 whatever their operands are, and are rounded to the dtype of the result once
    inner = min(unit, UNIT["float32"])
    plain = name in ARITHMETIC or name in PRODUCTS or name in SUMS
    steps = summed + (0 if plain else UNITS_OF_SERIES**2)
    mixes = torch.Tag.pointwise not in getattr(node.target, "tags", ())
    return Growth(math.sqrt(unit**2 + steps * inner**2), dtype, 1, mixes, name in RECURRENT)


def _is_widened(node: fx.Node, result: torch.Tensor) -> bool:
    given = next(_tensors(node)).dtype
    return not given.is_floating_point or given.itemsize <= result.dtype.itemsize


def _summed(node: fx.Node, name: str, result: torch.Tensor) -> int:
    """Return how many numbers each element of a result is summed up from; 0 if it is no sum."""
    given = list(_tensors(node))
    if name in PRODUCTS:
        return _size(given[PRODUCTS[name]].shape[-1])
    if name in RECURRENT:
        steps = max(map(_size, given[0].shape[:-1]))  # or the batch, where that is more
        return steps * (_size(given[0].shape[-1]) + _size(result.shape[-1]) + UNITS_OF_SERIES**2)
    if name == "linear_scan":
        return 2 * _size(given[0].shape[2])
    if name == "convolution":
        return _elements(given[1]) // max(1, _size(given[1].shape[0]))
    if name in ("_softmax", "_log_softmax", "native_layer_norm", "cumsum", "cumprod"):
        return _size(given[0].shape[-1]) if given[0].dim() else 1
    if name in ("native_group_norm", "_native_batch_norm_legit"):
        return _elements(given[0]) // max(1, _size(given[0].shape[0]))
    if name in REDUCTIONS:
        return _elements(given[0]) // max(1, _elements(result))
    return 0


def _tensors(node: fx.Node) -> Iterator[torch.Tensor]:
    """Values of the tensors that an operator takes, one that it takes twice as often."""
    for operand in pytree.tree_leaves((node.args, node.kwargs)):
        given = operand.meta.get("val") if isinstance(operand, fx.Node) else None
        yield from (value for value in pytree.tree_leaves(given) if isinstance(value, torch.Tensor))


def _elements(tensor: torch.Tensor) -> int:
    return math.prod(_size(size) for size in tensor.shape)


def _size(size: int | torch.SymInt) -> int:
    """A size, or that of the example where it is known only at the call."""
    return size if isinstance(size, int) else int(size.node.hint or 1)
