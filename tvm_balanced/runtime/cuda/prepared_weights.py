"""What a library makes of a module's weights before it computes with them, for as long as the module lives.

Compiled code gives a library addresses. Memory that is freed may become that of another weight at the
same address, so what was made of one must not outlive its owner: the module that holds the weight,
and its clones. A weight that nobody owns is not prepared.
"""

from collections.abc import Iterable
from typing import Any
from weakref import WeakValueDictionary

import tvm

_owners: "WeakValueDictionary[int, PreparedWeights]" = WeakValueDictionary()


class PreparedWeights:
    """The owner of some weights, and their forms for libraries.

    Parameters
    ----------
    weights : sequence of tvm.runtime.Tensor
        They live at least as long as this.
    """

    def __init__(self, weights: Iterable[tvm.runtime.Tensor]) -> None:
        self.forms: dict[Any, Any] = {}
        for weight in weights:
            _owners[weight.data_ptr()] = self


def owner_of(address: int | None) -> PreparedWeights | None:
    """Return who owns the weight at an address; None if nobody does."""
    return None if address is None else _owners.get(address)
