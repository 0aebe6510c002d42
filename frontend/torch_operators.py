"""Operators that are left to PyTorch at run time: which may be, how they are imported, and how long they take there."""

import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from tvm import relax
from tvm.ir import StringImm

from tvm_balanced.core.library_functions import TORCH_OPERATOR
from tvm_balanced.core.torch_operator import MARK, TorchOperator
from tvm_balanced.frontend.eager import running

ROUNDS = 5  # of timing; their median counts
# The nodes to leave to PyTorch, by name; None if nobody asks, and then no name of a node is kept.
_left: ContextVar[frozenset[str] | None] = ContextVar("left", default=None)


@contextmanager
def leaving(names: frozenset[str] | None) -> Iterator[None]:
    """Within it, an import leaves the nodes with these names to PyTorch; variables of Relax are named after the nodes."""
    before = _left.set(names)
    try:
        yield
    finally:
        _left.reset(before)


def left() -> frozenset[str] | None:
    """Return the nodes to leave to PyTorch, None if nobody asked."""
    return _left.get()


def convert(node: fx.Node, importer: Any, compiled: Any) -> Any:
    """Return a call of PyTorch at run time, of the type of what a node was converted to; that itself if it cannot be left."""
    call, ty = told(node), getattr(compiled, "ty", None)
    if call is None or not isinstance(ty, (relax.TensorType, relax.TupleType)):
        return compiled
    if isinstance(ty, relax.TupleType) and len(ty.fields) != len(node.meta["val"]):
        return compiled
    text, tensors = call
    operands = [importer.env[tensor] for tensor in tensors]
    asked = relax.op.call_pure_packed(TORCH_OPERATOR, StringImm(text), *operands, ty_args=ty)
    return importer.block_builder.emit(asked)


class Naming:
    """A block builder that names variables after a node."""

    def __init__(self, builder: relax.BlockBuilder, node: str) -> None:
        self.builder, self.node = builder, node

    def emit(self, expr: relax.Expr, name_hint: str = "") -> relax.Var:
        """Bind an expression to a variable."""
        return self.builder.emit(expr, name_hint or f"{self.node}{MARK}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.builder, name)


def told(node: fx.Node) -> tuple[str, list[fx.Node]] | None:
    """Return what the call of a node is told, and the nodes of its tensors, in order; None if it cannot be left to PyTorch.

    It can if it is an operator of ATen that computes (no view) of tensors and constants, whose results are tensors.
    """
    target, tensors = node.target, []
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten" or _is_view(target):
        return None
    results = node.meta.get("val")
    results = list(results) if isinstance(results, (tuple, list)) else [results]
    if not all(isinstance(one, torch.Tensor) for one in results):
        return None

    def plain(value: Any) -> Any:
        if isinstance(value, fx.Node):
            if not isinstance(value.meta.get("val"), torch.Tensor):
                raise TypeError(f"{value} is no tensor")
            if value not in tensors:
                tensors.append(value)
            return {"tensor": tensors.index(value)}
        if isinstance(value, (list, tuple)):
            return [plain(part) for part in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": str(value)}
        if isinstance(value, (torch.dtype, torch.memory_format)):
            return {"torch": str(value).removeprefix("torch.")}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"{value} is nothing that JSON has")

    try:
        args = plain(node.args)
        kwargs = {name: plain(value) for name, value in node.kwargs.items() if name not in ("device", "layout", "pin_memory")}
    except TypeError:
        return None
    return json.dumps({"operator": str(target).removeprefix("aten."), "args": args, "kwargs": kwargs}), tensors


def _is_view(target: Any) -> bool:
    """Whether an operator's result may share its input's memory."""
    return any(result.alias_info is not None for result in target._schema.returns)


def layer_of(node: fx.Node) -> str:
    """Return the layer that a node belongs to, "" for the model itself."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def operators(
    program: ExportedProgram, examples: Sequence[torch.Tensor], layers: Mapping[str, str], threads: int
) -> list[TorchOperator]:
    """Return every operator of a program that may be left to PyTorch, with the time that it takes there.

    Parameters
    ----------
    program : ExportedProgram
        In core ATen operators, as it is imported.
    examples : sequence of torch.Tensor
        Its inputs.
    layers : mapping
        Name of a node that is a weight to its layer's.
    threads : int
        PyTorch's.
    """
    timer = _Timer(program.graph_module)
    with running(threads):
        for _ in range(ROUNDS + 1):  # the first does not count
            timer.run(*_flat_inputs(program, examples))
    found = []
    for node in program.graph.nodes:
        if node.op == "call_function" and told(node) is not None:
            pointwise = torch.Tag.pointwise in node.target.tags
            seconds = statistics.median(timer.seconds[node.name][1:])
            weights = tuple(layers[each.name] for each in node.all_input_nodes if each.name in layers)
            found.append(TorchOperator(node.name, str(node.target), layer_of(node), seconds * 1e6, pointwise, weights))
    return found


def _flat_inputs(program: ExportedProgram, examples: Sequence[torch.Tensor]) -> list[Any]:
    """Return what the graph of a program takes: its weights and constants, and copies of the examples for its inputs."""
    signature, inputs = program.graph_signature, iter(examples)
    held = signature.inputs_to_parameters | signature.inputs_to_buffers | signature.inputs_to_lifted_tensor_constants
    values = {**program.constants, **program.state_dict}
    return [
        values[held[node.name]] if node.name in held else next(inputs).clone()
        for node in program.graph.find_nodes(op="placeholder")
    ]


class _Timer(fx.Interpreter):
    """Runs a graph and keeps the seconds of every node."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.seconds: dict[str, list[float]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one."""
        start = time.perf_counter()
        result = super().run_node(n)
        self.seconds.setdefault(n.name, []).append(time.perf_counter() - start)
        return result
