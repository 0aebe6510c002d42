"""A graph of torch's dynamo as a plain module: its weights are its own, and it takes tensors alone.

dynamo passes everything as inputs: weights, tensors, sizes that change from call to call, and numbers. What a graph does with a
size follows from the tensor that has it; a number that is no size is a constant.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import fx, nn

from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.structures import replaced

PARTS = re.compile(r"\['(\w+)'\]|\.(\w+)")


@dataclass(frozen=True)
class Inputs:
    """Which inputs of a graph are what, by their places.

    Parameters
    ----------
    weights : dict
        Place of a parameter or buffer to the name that it has in its model.
    tensors : tuple of int
        What a call computes with.
    sizes : dict
        Place of a size to (place of a tensor, dimension) that has it.
    numbers : tuple of int
        All other numbers; some are passed as tensors of no dimension.
    """

    weights: dict[int, str]
    tensors: tuple[int, ...]
    sizes: dict[int, tuple[int, int]]
    numbers: tuple[int, ...]

    @staticmethod
    def of(graph: fx.GraphModule) -> "Inputs":
        """Sort the inputs of a graph that dynamo just made."""
        nodes = graph.graph.find_nodes(op="placeholder")
        values = [node.meta["example_value"] for node in nodes]
        numbers = [place for place, node in enumerate(nodes) if _is_number(node)]
        weights = {p: _weight_name(node) for p, node in enumerate(nodes) if p not in numbers and _is_weight(node)}
        tensors = [place for place in range(len(nodes)) if place not in numbers and place not in weights]
        held = {str(size): (p, dim) for p in reversed(tensors) for dim, size in reversed(list(enumerate(values[p].shape)))}
        sizes = {place: held[str(values[place])] for place in numbers if str(values[place]) in held}
        return Inputs(weights, tuple(tensors), sizes, tuple(place for place in numbers if place not in sizes))

    def computing_with(self, places: set[int]) -> "Inputs":
        """Return the same with some weights among the tensors."""
        weights = {place: name for place, name in self.weights.items() if place not in places}
        return replace(self, weights=weights, tensors=tuple(sorted({*self.tensors, *places})))


def _is_number(node: fx.Node) -> bool:
    """Whether an input is a number of Python; dynamo passes floats that change as tensors."""
    argument = node.meta.get("grapharg")
    return not isinstance(node.meta["example_value"], torch.Tensor) or bool(getattr(argument, "pass_arg_as_tensor", False))


def _is_weight(node: fx.Node) -> bool:
    """Whether dynamo marked an input as a parameter or buffer of a module."""
    return node.meta.get("tensor_dict", {}).get("_dynamo_static_input_type") is not None


def number(value: Any) -> Any:
    """Return a number that dynamo may pass as a tensor."""
    return value.item() if isinstance(value, torch.Tensor) else value


def plain_module(graph: fx.GraphModule, inputs: Inputs, args: Sequence[Any]) -> nn.Module:
    """Return a module that takes the tensors of a graph, in order, and returns its tensors.

    Parameters
    ----------
    graph : torch.fx.GraphModule
        Not changed.
    inputs : Inputs
    args : sequence
        Of a call: weights, which are shared, and numbers are taken from it.
    """
    copied, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    copied.graph_copy(graph.graph, copies)
    copied.output(tuple(copies[leaf] for leaf in outputs_of(graph) if _is_tensor(leaf)))
    plain = fx.GraphModule(graph, copied)
    nodes = [copies[node] for node in graph.graph.find_nodes(op="placeholder")]
    with plain.graph.inserting_after(nodes[-1]):
        for place, name in inputs.weights.items():
            _register(plain, name, args[place])
            nodes[place].replace_all_uses_with(plain.graph.get_attr(name))
        for place, (owner, dim) in inputs.sizes.items():
            size = plain.graph.call_function(torch.ops.aten.sym_size.int, (nodes[owner], dim))
            nodes[place].replace_all_uses_with(size)
    for place in inputs.numbers:
        _fix(nodes[place], number(args[place]))
    for place in (*inputs.weights, *inputs.sizes, *inputs.numbers):
        plain.graph.erase_node(nodes[place])
    plain.recompile()
    return plain


def outputs_of(graph: fx.GraphModule) -> tuple[Any, ...]:
    """Return what a graph returns: nodes, numbers and None."""
    node = next(node for node in graph.graph.nodes if node.op == "output")
    return tuple(node.args[0])


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, fx.Node) and isinstance(leaf.meta.get("example_value"), torch.Tensor)


def completion(graph: fx.GraphModule) -> Callable[[Sequence[Any], Sequence[Any]], tuple[Any, ...]]:
    """Return what puts a graph's result together, of its tensors and the arguments of the call.

    Raises ModelError where the graph returns a number that depends on values of tensors.
    """
    values = [node.meta["example_value"] for node in graph.graph.find_nodes(op="placeholder")]
    symbols = {value.node.expr: p for p, value in enumerate(values) if isinstance(value, torch.SymInt)}
    makers = [None if _is_tensor(leaf) else _maker(leaf, symbols) for leaf in outputs_of(graph)]

    def complete(tensors: Sequence[Any], args: Sequence[Any]) -> tuple[Any, ...]:
        rest = iter(tensors)
        return tuple(next(rest) if make is None else make(args) for make in makers)

    return complete


def _maker(leaf: Any, symbols: dict[Any, int]) -> Callable[[Sequence[Any]], Any]:
    """Return what computes an output that is no tensor from the arguments of a call."""
    if not isinstance(leaf, fx.Node):
        return lambda args: leaf
    value = leaf.meta.get("example_value")
    if not isinstance(value, torch.SymInt):
        return lambda args: value
    expression = value.node.expr
    if not expression.free_symbols <= set(symbols):
        raise ModelError(f"it returns {expression}, a number that depends on values of tensors")
    return lambda args: int(expression.subs({symbol: args[symbols[symbol]] for symbol in expression.free_symbols}))


def _fix(node: fx.Node, value: Any) -> None:
    """Put a number in place of an input; where the input is a tensor, in place of its item()."""
    for user in list(node.users):
        if user.op == "call_method" and user.target == "item":
            _fix(user, value)
            user.graph.erase_node(user)
        else:
            user.args = fx.node.map_arg(user.args, partial(replaced, node, value))
            user.kwargs = fx.node.map_arg(user.kwargs, partial(replaced, node, value))


def _weight_name(node: fx.Node) -> str:
    """Return the name that a weight has in its model, as dynamo found it: L['self']._modules['fc']._parameters['weight']."""
    parts = [one or two for one, two in PARTS.findall(node.meta["grapharg"].source.name)][1:]
    return ".".join(part for part in parts if part not in ("_modules", "_parameters", "_buffers")) or node.name


def _register(root: nn.Module, name: str, value: torch.Tensor) -> None:
    """Register a weight under a name with dots, in modules that are made for it."""
    path, _, attribute = name.rpartition(".")
    for part in path.split(".") if path else ():
        if not hasattr(root, part):
            root.add_module(part, nn.Module())
        root = getattr(root, part)
    if isinstance(value, nn.Parameter):
        root.register_parameter(attribute, value)
    else:
        root.register_buffer(attribute, value)
