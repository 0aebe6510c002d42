"""Explicit casts in a decomposed program, where torch promotes operands as it goes."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from tvm_balanced.frontend.operator_name import operator_name

COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}
# Not pointwise by torch's tags, and computed in the dtype of the result all the same.
PROMOTED = {"cat", "cumprod", "cumsum", "linalg_vector_norm", "mean", "prod", "std", "sum", "var"} | {
    "floor_divide", "rsub", "__and__", "__or__", "__xor__", "prelu", "hardswish"
}  # fmt: skip
# Pointwise, and their operands keep their dtypes: what they return says nothing of how they compute, or they convert.
KEPT = {"isfinite", "isinf", "isnan", "logical_and", "logical_not", "logical_or", "logical_xor", "clone", "signbit"}
MASK_PLACES = {"where": 0, "masked_fill": 1}  # the operand that is a condition
SMALLEST, LARGEST = torch.finfo(torch.float16).smallest_normal, torch.finfo(torch.float16).max


def promote_types(program: ExportedProgram) -> None:
    """Cast the operands of every operator to the dtype that torch computes it in; the program is changed.

    TVM's importer gives a Python number the dtype of the tensor beside it, divides integers as integers, and refuses what torch
    promotes: `tokens / 2`, `(mask == 0) * -1e4`, `torch.exp(steps)`. A cast is a node `aten._to_copy` with the same layer as the
    operator that needs it. float16 beside a number that float16 cannot hold is computed in float32, as torch does.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        In core ATen operators; its signature and its weights stay as they are.
    """
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in list(module.graph.nodes):
                _promote(node)


def _promote(node: fx.Node) -> None:
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return
    result = node.meta.get("val")
    if not (isinstance(result, torch.Tensor) and _is_promoted(node.target)):
        return
    dtype = _dtype_of_operands(node, result)
    wide = dtype == torch.float16 and any(_is_beyond_float16(arg) for arg in node.args)
    operands = [operand for operand in _operands(node) if operand.meta["val"].dtype != (torch.float32 if wide else dtype)]
    for operand in dict.fromkeys(operands):
        with node.graph.inserting_before(node):
            node.replace_input_with(operand, _cast(operand, torch.float32 if wide else dtype, node))
    if wide and result.dtype == torch.float16:
        _cast_back(node, result)
    if dtype == torch.uint8 and torch.Tag.pointwise in node.target.tags:  # torch takes the lowest bits of a number
        node.args = tuple(arg % 256 if isinstance(arg, int) and not isinstance(arg, bool) else arg for arg in node.args)


def _is_promoted(operator: Any) -> bool:
    name = operator._schema.name.removeprefix("aten::").removesuffix("_") or operator._schema.name
    name = operator.__name__.partition(".")[0] if name.startswith("__") else name
    return name not in KEPT and (name in PROMOTED or torch.Tag.pointwise in operator.tags)


def _dtype_of_operands(node: fx.Node, result: torch.Tensor) -> torch.dtype:
    if operator_name(node) not in COMPARISONS:
        return result.dtype
    x, y = (_value(arg) for arg in node.args)
    return torch.result_type(x, y)


def _value(operand: Any) -> Any:
    """A tensor, or a number that stands for every number of its kind."""
    value = operand.meta["val"] if isinstance(operand, fx.Node) else operand
    return 1 if isinstance(value, torch.SymInt) else value


def _operands(node: fx.Node) -> Iterator[fx.Node]:
    """Operands that torch promotes: tensors, also in a list, but no condition."""
    mask = MASK_PLACES.get(operator_name(node))
    for place, arg in enumerate(node.args):
        for operand in arg if isinstance(arg, list | tuple) else [arg]:
            if place != mask and isinstance(operand, fx.Node) and isinstance(operand.meta.get("val"), torch.Tensor):
                yield operand


def _is_beyond_float16(number: Any) -> bool:
    if not isinstance(number, int | float) or number in (0, float("inf"), -float("inf")):
        return False
    return not SMALLEST <= abs(number) <= LARGEST and number == number


def _cast(operand: fx.Node, dtype: torch.dtype, user: fx.Node) -> fx.Node:
    cast = operand.graph.call_function(torch.ops.aten._to_copy.default, (operand,), {"dtype": dtype})
    cast.meta = {key: user.meta[key] for key in ("nn_module_stack", "stack_trace") if key in user.meta}
    value = operand.meta["val"]
    with value.fake_mode:
        cast.meta["val"] = value.to(dtype)
    return cast


def _cast_back(node: fx.Node, result: torch.Tensor) -> None:
    """Let a node give float32, and a cast after it what it gave before."""
    users = list(node.users)
    with result.fake_mode:  # type: ignore[attr-defined]
        node.meta["val"] = result.to(torch.float32)
    with node.graph.inserting_after(node):
        cast = _cast(node, torch.float16, node)
    for user in users:
        user.replace_input_with(node, cast)
