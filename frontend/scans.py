"""torch's scan, `torch._higher_order_ops.scan`: a loop over the first dimension of tensors, as exported programs have it.

One that is a linear recurrence, state = a * state + b, becomes the operator of `linear_scans.py`, of any length. Any other is
unrolled where its length is known.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.importer import refusal
from tvm_balanced.frontend.linear_scans import ALL_STATES, DTYPES

aten = torch.ops.aten
LONGEST = 256  # steps that are unrolled: each is compiled by itself


def lower_scans(program: ExportedProgram) -> None:
    """Replace the scans of a decomposed program by other operators.

    Raises
    ------
    ModelError
        Where one is neither a linear recurrence nor short.
    """
    nodes = [node for node in program.graph.nodes if node.target is getattr(torch.ops.higher_order, "scan", None)]
    for node in nodes:
        _Scan(program, node).lower()
    if nodes:
        program.graph.eliminate_dead_code()
        program.graph_module.delete_all_unused_submodules()
        program.graph_module.recompile()


class _Scan:
    """One of them."""

    def __init__(self, program: ExportedProgram, node: fx.Node) -> None:
        given: Any = node.args
        self.program, self.graph, self.node = program, program.graph, node
        self.body: fx.Graph = getattr(program.graph_module, str(given[0].target)).graph
        self.initial, self.over, self.others = map(list, given[1:])
        self.results: list[Any] = list(_result(self.body))

    def lower(self) -> None:
        """Replace it."""
        with self.graph.inserting_before(self.node):
            results = self.linear()
            results = self.unrolled() if results is None else results
        for user in list(self.node.users):
            result = results[user.args[1]]  # type: ignore[index]
            for spec in self.program.graph_signature.output_specs:  # which names a result by its node
                if getattr(spec.arg, "name", None) == user.name:
                    spec.arg.name = result.name
            user.replace_all_uses_with(result)
            self.graph.erase_node(user)
        self.graph.erase_node(self.node)

    def linear(self) -> list[fx.Node] | None:
        """Return the last state and all states of a linear recurrence; None if it is none."""
        alone = (len(self.initial), len(self.over), len(self.others)) == (1, 2, 0)
        places = _linear(self.body, self.results) if alone else None
        if places is None or any(not isinstance(size, int) for size in _value(self.initial[0]).shape):
            return None
        shape, dtypes = _value(self.initial[0]).shape, {_value(each).dtype for each in (*self.initial, *self.over)}
        if len(dtypes) > 1 or not dtypes <= set(DTYPES) or not shape.numel():
            return None
        width = shape.numel()
        a, b = (self.call(aten.reshape.default, self.over[place], [1, 1, -1, width]) for place in places)
        states = self.call(ALL_STATES, a, b, self.call(aten.reshape.default, self.initial[0], [1, 1, width]))
        last = self.call(aten.reshape.default, self.call(aten.select.int, states, 2, -1), list(shape))
        every = self.call(aten.reshape.default, states, [-1, *shape])
        return [last, *[every] * (len(self.results) - 1)]

    def unrolled(self) -> list[fx.Node]:
        """Return the results of all steps, one after another."""
        length = _value(self.over[0]).shape[0]
        if not isinstance(length, int):
            raise self.refused("of a length that changes, and no linear recurrence: give fixed sizes")
        if length > LONGEST:
            raise self.refused(
                f"of {length} steps, and no linear recurrence: give at most {LONGEST}, or write it for all at once"
            )
        state = list(self.initial)
        outputs: list[list[fx.Node]] = [[] for _ in self.results[len(state) :]]
        for time in range(length):
            parts = [self.call(aten.select.int, each, 0, time) for each in self.over]
            results = self.step([*state, *parts, *self.others])
            state = results[: len(state)]
            for every, one in zip(outputs, results[len(state) :], strict=True):
                every.append(self.call(aten.unsqueeze.default, one, 0))
        return [*state, *(self.call(aten.cat.default, every) for every in outputs)]

    def step(self, operands: Sequence[fx.Node]) -> list[fx.Node]:
        """Return the results of the body for some operands."""
        own = iter(operands)
        known: dict[fx.Node, fx.Node] = {}
        for node in self.body.nodes:
            if node.op == "placeholder":
                known[node] = next(own)
            elif node.op == "get_attr":
                raise self.refused("one whose step holds a constant or another loop: give it as an argument")
            elif node.op != "output":
                known[node] = self.graph.node_copy(node, known.__getitem__)
        return [known[result] for result in self.results]

    def call(self, target: Any, *args: Any) -> fx.Node:
        """Return a call of an operator, with the tensor that torch says it gives."""
        node = self.graph.call_function(target, args)
        values = pytree.tree_map_only(fx.Node, _value, args)
        node.meta = {"val": target(*values), "nn_module_stack": self.node.meta.get("nn_module_stack", {})}
        return node

    def refused(self, why: str) -> ModelError:
        """Return the error of a scan that cannot be compiled."""
        return refusal(self.node, f"is a scan {why}")


def _linear(body: fx.Graph, results: Sequence[Any]) -> tuple[int, int] | None:
    """Return which of the scanned tensors are a and b of state = a * state + b, if that is what a body computes and gives."""
    state, *parts = body.find_nodes(op="placeholder")
    new: Any = results[0]
    if new.target != aten.add.Tensor or len(new.args) != 2 or new.kwargs:
        return None
    if any(_copied(result) is not new for result in results):
        return None
    for product, b in (new.args, new.args[::-1]):
        if getattr(product, "target", None) != aten.mul.Tensor or b not in parts:
            continue
        for a, before in (product.args, product.args[::-1]):
            if before is state and a in parts and len({tuple(_value(each).shape) for each in (a, b, state)}) == 1:
                return parts.index(a), parts.index(b)
    return None


def _copied(node: Any) -> Any:
    """Return what a node is a copy of, or itself."""
    return node.args[0] if getattr(node, "target", None) == aten.clone.default else node


def _result(graph: fx.Graph) -> Sequence[Any]:
    (output,) = graph.find_nodes(op="output")
    results: Sequence[Any] = output.args[0]
    return results


def _value(node: fx.Node) -> torch.Tensor:
    value: torch.Tensor = node.meta["val"]
    return value
