"""Linear recurrences over time, as state space models (Mamba) have them: found in exported programs, imported as one operator.

    state = a[:, :, t] * state + b[:, :, t]

torch.export unrolls a loop in Python: a step is then a product and a sum of its own, and a model of 128 tokens has a thousand
operators a layer. What is made of all states is found with them: their stack, or a product of each with a vector of its time.
"""

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from tvm import relax

from tvm_balanced.ops import linear_scan as linear_scan_of

aten = torch.ops.aten
SHORTEST = 4  # steps of a loop that is worth it
DTYPES = (torch.float32, torch.float64)
# They keep the elements of a tensor in their order, if they keep their number.
KEEPING = (
    *(aten.view.default, aten.reshape.default, torch.ops.aten._unsafe_view.default, aten.unsqueeze.default, aten.squeeze.dim),
    *(aten.squeeze.dims, aten.expand.default, aten.select.int, aten.slice.Tensor, aten.clone.default, aten.alias.default),
)


@torch.library.custom_op("tvm_balanced::linear_scan", mutates_args=())
def all_states(a: torch.Tensor, b: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """All states (B, D, T, N) of a recurrence with a, b (B, D, T, N) that begins with `start` (B, D, N)."""
    states = [start]
    for step in range(a.shape[2]):
        states.append(a[:, :, step] * states[-1] + b[:, :, step])
    return torch.stack(states[1:], 2)


@torch.library.custom_op("tvm_balanced::linear_scan_read", mutates_args=())
def states_read(a: torch.Tensor, b: torch.Tensor, start: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The states of `all_states` read out by c (B, T, N): y (B, D, T), and the last state (B, D, N)."""
    states = all_states(a, b, start)
    return torch.einsum("bdtn,btn->bdt", states, c), states[:, :, -1].clone()


@all_states.register_fake
def _(a: torch.Tensor, b: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(a)


@states_read.register_fake
def _(a: torch.Tensor, b: torch.Tensor, start: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return a.new_empty(a.shape[:3]), torch.empty_like(start)


ALL_STATES, STATES_READ = torch.ops.tvm_balanced.linear_scan.default, torch.ops.tvm_balanced.linear_scan_read.default


def convert(node: fx.Node, importer: Any) -> relax.Expr:
    """Convert one of these operators."""
    return importer.block_builder.emit(linear_scan_of(*(importer.env[operand] for operand in node.args)))


@dataclass(frozen=True)
class _Step:
    """state = a[..., time, ...] * before + b[..., time, ...], with the time at one dimension of a and of b."""

    node: fx.Node
    before: fx.Node
    time: int
    sources: tuple[tuple[fx.Node, int], tuple[fx.Node, int]]


def roll(program: ExportedProgram) -> int:
    """Replace the unrolled recurrences of a decomposed program by one operator each; return how many there were."""
    steps = [step for node in program.graph.nodes for step in _steps(node)]
    loops: dict[Any, list[_Step]] = {}
    for step in steps:
        loops.setdefault(step.sources, []).append(step)
    found = sum(_roll(program.graph, sorted(own, key=lambda step: step.time)) for own in loops.values())
    if found:
        program.graph.eliminate_dead_code()
        program.graph_module.recompile()
    return found


def _steps(node: fx.Node) -> list[_Step]:
    """Return in which ways a node is a step of a recurrence."""
    if not (
        _is(node, aten.add.Tensor) and len(node.args) == 2 and not node.kwargs and _shape(node) and _value(node).dtype in DTYPES
    ):
        return []
    found = []
    for product, added in _both_ways(node):
        if not (_is(product, aten.mul.Tensor) and _is(added, aten.select.int)):
            continue
        for factor, before in _both_ways(product):
            if not (_is(factor, aten.select.int) and isinstance(before, fx.Node)):
                continue
            (a, of_a, time), (b, of_b, same) = _operands(factor), _operands(added)
            sources = (a, of_a % len(_shape(a))), (b, of_b % len(_shape(b)))
            if time == same and _shape(factor) == _shape(added) == _shape(before) == _shape(node):
                found.append(_Step(node, before, time, sources))
    return found


def _roll(graph: fx.Graph, steps: list[_Step]) -> bool:
    """Replace the steps of one recurrence, in order, if they are a whole one."""
    (a, of_a), (b, of_b) = steps[0].sources
    length = _shape(a)[of_a]
    whole = [step.time for step in steps] == list(range(length)) and length >= SHORTEST and _shape(b)[of_b] == length
    linked = all(after.before is step.node for step, after in itertools.pairwise(steps))
    same = _value(a).dtype == _value(b).dtype == _value(steps[0].before).dtype
    known = len(_shape(steps[0].node)) == 3 or all(isinstance(size, int) for size in _shape(a) + _shape(b))
    if not (whole and linked and same and known):
        return False
    _Rolling(graph, steps).run()
    return True


class _Rolling:
    """One recurrence that is replaced."""

    def __init__(self, graph: fx.Graph, steps: list[_Step]) -> None:
        self.graph, self.steps = graph, steps
        self.shape = _shape(steps[0].node)  # of a state
        self.nodes = [step.node for step in steps]

    def run(self) -> None:
        """Put the operator where all that it reads is known, and its results where the states were read."""
        (a, of_a), (b, of_b) = self.steps[0].sources
        for checked in [
            user for node in self.nodes for user in node.users if _is(user, torch.ops.aten._assert_tensor_metadata.default)
        ]:
            self.graph.erase_node(checked)  # it looks at dtypes alone
        reading = self.readings()
        with self.graph.inserting_before(self.nodes[0] if reading is None else reading.stacked):
            operands = [self.laid(a, of_a), self.laid(b, of_b), self.view(self.steps[0].before, [*self.outer, self.width])]
            if reading is None:
                self.replace_states(self.call(ALL_STATES, operands, torch.empty_like(_value(operands[0]))))
            else:
                self.replace_reading(reading, operands)

    @property
    def outer(self) -> list[int]:
        """Batch and channels: all dimensions of a state but the last, as two."""
        if len(self.shape) == 1:
            return [1, 1]
        first, *rest = self.shape[:-1]
        return [first, _product(rest)]

    @property
    def width(self) -> int:
        """Elements of the last dimension of a state."""
        return self.shape[-1]

    def laid(self, source: fx.Node, time: int) -> fx.Node:
        """Return an operand as (B, D, T, N)."""
        last = len(self.shape) - 1
        if time != last:
            order = [axis for axis in range(len(self.shape) + 1) if axis != time]
            order.insert(last, time)
            source = self.call(aten.permute.default, [source, order], _value(source).permute(order))
        return self.view(source, [*self.outer, len(self.steps), self.width])

    def view(self, node: fx.Node, shape: Sequence[int]) -> fx.Node:
        """Return a node in another shape."""
        if _shape(node) == list(shape):
            return node
        return self.call(aten.reshape.default, [node, list(shape)], _value(node).new_empty(shape))

    def call(self, target: Any, args: Sequence[Any], value: Any) -> fx.Node:
        """Return a call of an operator."""
        node = self.graph.call_function(target, tuple(args))
        node.meta = {"val": value, "nn_module_stack": self.nodes[0].meta.get("nn_module_stack", {})}
        return node

    def replace_states(self, states: fx.Node) -> None:
        """Let what read the states of single steps read them from all of them."""
        whole = self.view(states, [*self.shape[:-1], len(self.steps), self.width])
        for time, node in enumerate(self.nodes):
            self.replace_one(node, whole, len(self.shape) - 1, time)

    def replace_one(self, node: fx.Node, source: fx.Node, axis: int, time: int) -> None:
        """Let what reads a state, other steps apart, read it as a part of another node."""
        readers = [user for user in node.users if not self.is_of_a_step(user)]
        if readers:
            one = self.call(aten.select.int, [source, axis, time], _value(node))
            for reader in readers:
                reader.replace_input_with(node, one)

    def is_of_a_step(self, user: fx.Node) -> bool:
        """Whether a node is the product of a later step."""
        return any(reader in self.nodes for reader in user.users) and _is(user, aten.mul.Tensor)

    def readings(self) -> "_Reading | None":
        """Return how the states are read out, if all of them are by a vector each, and then stacked along a last dimension."""
        if len(self.shape) != 3:
            return None
        found = []
        for time, node in enumerate(self.nodes):
            others = [user for user in node.users if not self.is_of_a_step(user)]
            found.append([(own, time) for user in others if (own := self.reading(user, node, time)) is not None])
        return next((one for one, _ in found[0] if self.is_whole(one, found)), None)

    def is_whole(self, reading: "_Reading", found: "list[list[tuple[_Reading, int]]]") -> bool:
        """Whether what is stacked are the products of all states with c, in their order."""
        places = [next((own.place for own, _ in every if own.same(reading)), None) for every in found]
        return places == list(range(len(self.steps))) and _length(reading.stacked) == len(self.steps)

    def reading(self, user: fx.Node, state: fx.Node, time: int) -> "_Reading | None":
        """Return how a user of a state reads it out: the product of (B, D, N) with c (B, N, 1), and where that is stacked."""
        batch, channels, width = self.shape
        while _keeps(user) and len(user.users) == 1:
            user = next(iter(user.users))
        if not _is(user, aten.bmm.default) or _shape(user) != [batch, channels, 1]:
            return None
        vector = _operands(user)[1]
        while _keeps(vector) and not (_is(vector, aten.select.int) and _shape(vector) == [batch, width]):
            vector = _operands(vector)[0]
        if (
            not _is(vector, aten.select.int)
            or vector.args[2] != time
            or _shape(vector.args[0]) != [batch, len(self.steps), width]
        ):
            return None
        last: Any = user
        while len(last.users) == 1 and _keeps(next(iter(last.users))):
            last = next(iter(last.users))
        stacked: Any = next(iter(last.users)) if len(last.users) == 1 else None
        if not _is(stacked, aten.cat.default) or _shape(last) != [batch, channels, 1]:
            return None
        parts, *dim = _operands(stacked)
        if (dim[0] if dim else 0) % 3 != 2 or last not in parts:
            return None
        return _Reading(_operands(vector)[0], stacked, parts.index(last))

    def replace_reading(self, reading: "_Reading", operands: list[fx.Node]) -> None:
        """Let what read the stacked products read y, and what read the last state read that."""
        start = _value(operands[2])
        y = start.new_empty(_value(operands[0]).shape[:3])
        both = self.call(STATES_READ, [*operands, reading.c], (y, torch.empty_like(start)))
        of_y, last = (self.call(operator.getitem, [both, place], both.meta["val"][place]) for place in (0, 1))
        reading.stacked.replace_all_uses_with(of_y)
        final = self.nodes[-1]
        for user in list(final.users):
            if not self.reading(user, final, len(self.steps) - 1):
                user.replace_input_with(final, last)


@dataclass(frozen=True)
class _Reading:
    """States that are read out by c (B, T, N): where their products are stacked, and the place of one of them there."""

    c: fx.Node
    stacked: fx.Node
    place: int

    def same(self, other: "_Reading") -> bool:
        """Whether it is of the same c, and stacked there too."""
        return self.c is other.c and self.stacked is other.stacked


def _operands(node: Any) -> Any:
    return node.args


def _both_ways(node: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return the two operands of a sum or a product in both orders."""
    first, second = node.args
    return (first, second), (second, first)


def _is(node: Any, target: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target == target


def _keeps(node: Any) -> bool:
    """Whether a node has the elements of its input in their order."""
    return (
        isinstance(node, fx.Node)
        and node.target in KEEPING
        and _product(_shape(node)) == _product(_shape(node.args[0]))  # a slice or a part that is the whole
    )


def _value(node: fx.Node) -> torch.Tensor:
    value: torch.Tensor = node.meta["val"]
    return value


def _shape(node: Any) -> list[Any]:
    """Return the shape of a node's tensor, of numbers and expressions; empty where it is no tensor."""
    value = getattr(node, "meta", {}).get("val")
    return [size if isinstance(size, int) else size.node.expr for size in value.shape] if isinstance(value, torch.Tensor) else []


def _length(stacked: fx.Node) -> int:
    return len(stacked.args[0])  # type: ignore[arg-type]


def _product(sizes: Sequence[Any]) -> Any:
    total: Any = 1
    for size in sizes:
        total *= size
    return total
