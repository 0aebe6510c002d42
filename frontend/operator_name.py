"""The name of a node's operator in an exported program."""

from typing import Any

import torch
from torch.fx import Node


def operator_name(node: Node) -> str:
    """Return the name without namespace and overload: "add" for aten.add.Tensor; empty for an input, a weight or the result."""
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.rpartition("::")[2]
    return str(getattr(target, "__name__", ""))
