"""What an exported program tells of the values that its inputs may have: ids of an embedding, and whether it ranks values."""

from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node

from tvm_balanced.frontend.operator_name import operator_name

RANKING = frozenset("argmax argmin topk sort argsort max min median mode kthvalue searchsorted bucketize".split())
LOOKUPS = frozenset(("embedding", "_embedding_bag", "_embedding_bag_forward_only"))
THROUGH = frozenset("view reshape _to_copy clone expand unsqueeze squeeze slice select permute alias detach".split())


def id_ranges(program: ExportedProgram) -> dict[str, tuple[int, int]]:
    """Return for each input that goes into an embedding the smallest and the largest id that every table has."""
    inputs = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT}
    ranges: dict[str, tuple[int, int]] = {}
    for node in program.graph.nodes:
        if operator_name(node) not in LOOKUPS:
            continue
        table, ids = node.args[0].meta["val"], _origin(node.args[1])
        if ids.name in inputs and isinstance(table.shape[0], int):
            last = table.shape[0] - 1
            ranges[ids.name] = (0, min(last, ranges.get(ids.name, (0, last))[1]))
    return ranges


def ranks(program: ExportedProgram) -> bool:
    """Whether a program has an operator whose result ties decide."""
    return any(operator_name(node) in RANKING for node in program.graph.nodes)


def _origin(node: Node) -> Node:
    """Return the node that a view or a cast is of."""
    while operator_name(node) in THROUGH and isinstance(node.args[0], Node):
        node = node.args[0]
    return node
