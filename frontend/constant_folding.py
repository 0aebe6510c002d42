"""Evaluate each expression of weights once: masks, thresholds, norms, low-rank sums, slices of a joined weight.

A weight that a model computes from others in every call is still a constant. It becomes a weight of
its own, so that its zeros are seen in whatever way the model expresses it. Two kinds of expressions
stay: views and casts of one weight, which later passes handle, and dequantisation (integers times
scales), because a quantised kernel needs its parts.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Node

SMALLEST = 256  # elements; smaller weights are no layer's
WEIGHTS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
KEPT = frozenset(
    """
    aten.permute.default aten.t.default aten.transpose.int aten.view.default aten.reshape.default aten.expand.default
    aten.unsqueeze.default aten.squeeze.dim aten.squeeze.dims aten.alias.default aten.detach.default aten._to_copy.default
    aten.clone.default
    """.split()
)

ASSERTION = "aten._assert_tensor_metadata.default"  # of the dtype of what is cast; the importer drops it
PRODUCTS = frozenset("aten.mm.default aten.addmm.default aten.bmm.default aten.linear.default aten.matmul.default".split())


def fold_constants(program: ExportedProgram, known: dict[tuple[Any, ...], torch.Tensor] | None = None) -> dict[str, list[str]]:
    """Replace each expression of weights in a decomposed program by its value, a new buffer. `program` is changed.

    The buffer has the name of the weight that the expression is made of; parts of one weight get a
    number behind it.

    Parameters
    ----------
    program : torch.export.ExportedProgram
    known : dict, optional
        Values from other programs of the same model, which this one shares; this program's values
        are added.

    Returns
    -------
    dict
        Name of each new buffer to the names of the weights that it is made of, the one that it is named after first.
    """
    known = {} if known is None else known
    weights = _weights(program)
    constant = _constant_nodes(program, weights)
    roots = [node for node in program.graph.nodes if node in constant and _folds(node, constant, weights)]
    if not roots:
        return {}
    values: dict[Node, Any] = {}
    folded = [(node, _sources(node, constant, weights), _evaluate(node, weights, values)) for node in roots]
    names = _names(program, folded, weights)
    for (node, _, value), name in zip(folded, names, strict=True):
        whole = value.contiguous()
        _replace(program, node, name, known.setdefault(_content(whole), whole))
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    made = zip(names, ([name for name, _ in sources] for _, sources, _ in folded), strict=True)
    origins = (_origin(sources) for _, sources, _ in folded)
    return {name: [origin, *(s for s in sources if s != origin)] for (name, sources), origin in zip(made, origins, strict=True)}


def _weights(program: ExportedProgram) -> dict[str, tuple[str, torch.Tensor]]:
    """Return (name, tensor) of each weight by its placeholder's name, without buffers that a call changes."""
    tensors = {**program.state_dict, **program.constants}
    changed = set(program.graph_signature.buffers_to_mutate.values())
    return {
        spec.arg.name: (spec.target, tensors[spec.target])
        for spec in program.graph_signature.input_specs
        if spec.kind in WEIGHTS and isinstance(tensors.get(str(spec.target)), torch.Tensor) and spec.target not in changed
    }


def _constant_nodes(program: ExportedProgram, weights: dict[str, tuple[str, torch.Tensor]]) -> set[Node]:
    """Return the nodes that do not depend on any input of a call."""
    found: set[Node] = set()
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name in weights:
                found.add(node)
        elif node.op == "call_function" and _is_pure(node) and all(arg in found for arg in node.all_input_nodes):
            found.add(node)
    return found


def _is_pure(node: Node) -> bool:
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return str(target) == "<built-in function getitem>"
    return torch.Tag.nondeterministic_seeded not in target.tags and not target._schema.is_mutable


def _folds(node: Node, constant: set[Node], weights: dict[str, tuple[str, torch.Tensor]]) -> bool:
    """Whether a constant node becomes a weight: the model reads it, and it is more than views and casts."""
    value = node.meta.get("val")
    if node.op == "placeholder" or not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return False
    if _is_kept(node) or not _is_read(node, constant):
        return False
    sources = _sources(node, constant, weights)
    if not any(tensor.numel() >= SMALLEST for _, tensor in sources) or value.numel() < SMALLEST:
        return False
    return not _is_dequantised(node) and not _is_of_first_state(node)


def _is_read(node: Node, constant: set[Node]) -> bool:
    """Whether the model reads a constant node as it is, or by way of views and casts."""
    users = [user for user in node.users if str(user.target) != ASSERTION]
    return any(user not in constant or (_is_kept(user) and _is_read(user, constant)) for user in users)


def _is_kept(node: Node) -> bool:
    return str(node.target) in KEPT


def _is_dequantised(node: Node) -> bool:
    """Whether a node is integers times scales, with more integers than scales. A mask has as many
    elements as its weight.
    """
    if str(node.target) != "aten.mul.Tensor":
        return False
    sides = [arg for arg in node.args if isinstance(arg, Node)]
    counts = [arg.meta["val"].numel() if isinstance(arg.meta.get("val"), torch.Tensor) else 1 for arg in sides]
    integers = [any(_is_integer(part) for part in _ancestors(arg)) for arg in sides]
    other = [1] if len(sides) == 1 else counts[::-1]
    return any(whole and count > beside for whole, count, beside in zip(integers, counts, other, strict=False))


def _is_of_first_state(node: Node) -> bool:
    """Whether a node has a layer in it whose x the model makes itself, as the first state of a recurrent network: its result is
    no weight, and the layer is one of the model's all the same.
    """
    products = (part for part in _ancestors(node) if str(part.target) in PRODUCTS)
    made = (arg for part in products for arg in part.all_input_nodes)
    return any(all(origin.op != "placeholder" for origin in _ancestors(arg)) for arg in made)


def _is_integer(node: Node) -> bool:
    value = node.meta.get("val")
    if node.op != "placeholder" or not isinstance(value, torch.Tensor):
        return False
    return not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)


def _ancestors(node: Node) -> Iterator[Node]:
    seen, waiting = {node}, [node]
    while waiting:
        part = waiting.pop()
        yield part
        waiting.extend(arg for arg in part.all_input_nodes if arg not in seen)
        seen.update(part.all_input_nodes)


def _sources(node: Node, constant: set[Node], weights: dict[str, tuple[str, torch.Tensor]]) -> list[tuple[str, torch.Tensor]]:
    """Return the floating-point weights that an expression is made of."""
    found = (weights[part.name] for part in _ancestors(node) if part.op == "placeholder")
    return [(name, tensor) for name, tensor in found if tensor.is_floating_point()]


def _evaluate(node: Node, weights: dict[str, tuple[str, torch.Tensor]], values: dict[Node, Any]) -> Any:
    """Return the value of a constant node; `values` caches the values of its parts."""
    needed = set(_ancestors(node)).difference(values)
    order = [part for part in node.graph.nodes if part in needed]
    for part in order:
        if part.op == "placeholder":
            values[part] = weights[part.name][1].detach()
            continue
        args, kwargs = torch.fx.node.map_arg((part.args, part.kwargs), lambda arg: values[arg])
        with torch.no_grad():
            values[part] = part.target(*args, **kwargs)
    return values[node]


def _names(program: ExportedProgram, folded: list[tuple[Node, list[tuple[str, torch.Tensor]], Any]], weights: Any) -> list[str]:
    """Return a name for each new weight: the name of the weight it is made of, with a number if there are several."""
    origins = [_origin(sources) for _, sources, _ in folded]
    taken = {*program.state_dict, *program.constants}
    names = []
    for place, origin in enumerate(origins):
        of_it = [other for other, name in enumerate(origins) if name == origin]
        name = f"{origin}.{of_it.index(place)}" if len(of_it) > 1 else f"{origin}.folded"
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names


def _content(value: torch.Tensor) -> tuple[Any, ...]:
    """Return a key of a contiguous tensor that is equal for equal values."""
    digest = hashlib.sha256(value.view(-1).view(torch.uint8).numpy().data).hexdigest()
    return "folded", digest, tuple(value.shape), value.dtype


def _origin(sources: list[tuple[str, torch.Tensor]]) -> str:
    """Return the name of the weight that an expression is mostly made of: the largest, or one with such a name."""
    return max(sources, key=lambda source: (source[1].numel(), "weight" in source[0], "mask" not in source[0]))[0]


def _replace(program: ExportedProgram, node: Node, name: str, value: torch.Tensor) -> None:
    """Replace a node by a placeholder of a new buffer."""
    first = next(iter(program.graph.nodes))
    with program.graph.inserting_before(first):
        placeholder = program.graph.placeholder(f"b_folded_{len(program.state_dict)}")
    placeholder.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(placeholder)
    program.state_dict[name] = value
    spec = InputSpec(InputKind.BUFFER, TensorArgument(placeholder.name), name, persistent=True)
    program.graph_signature.input_specs.insert(0, spec)
