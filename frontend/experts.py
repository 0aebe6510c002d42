"""Weights of experts that share the rows of x among them, though compiled code lets each compute them all."""

from typing import Any

from torch.export import ExportedProgram
from torch.fx import Node

GROUPED = ("grouped_mm", "grouped_mm_fallback")  # of torch, and of transformers


def expert_products(program: ExportedProgram) -> dict[Node, int]:
    """Return the products of a decomposed program that a grouped one was made of, each with the number of its experts.

    To be asked before weights are folded: each weight is then still a part of the experts' common one.
    """
    return {node: _experts(node) for node in program.graph.nodes if str(node.target) == "aten.mm.default" and _is_grouped(node)}


def expert_weights(program: ExportedProgram, products: dict[Node, int]) -> dict[int, int]:
    """Return the address of the weight of each of these products, with the number of experts; weights are folded by now."""
    signature, found = program.graph_signature, dict[int, int]()
    targets = {getattr(spec.arg, "name", ""): spec.target for spec in signature.input_specs}
    for node, experts in products.items():
        weight: Any = node.args[1]
        tensor = program.state_dict.get(str(targets.get(weight.name)))
        if tensor is not None:
            found[tensor.data_ptr()] = experts
    return found


def _is_grouped(node: Node) -> bool:
    schema = getattr(node.meta.get("original_aten"), "_schema", None)
    return schema is not None and schema.name.rpartition("::")[2].lstrip("_") in GROUPED


def _experts(product: Node) -> int:
    part: Any = product.args[1]
    return int(part.args[0].meta["val"].shape[0])
