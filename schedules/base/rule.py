"""Rule: a way to schedule functions of TVM's own operators, those that none of our kernels computes."""

from abc import ABC, abstractmethod
from typing import ClassVar

import tvm
from tvm import tirx


class Rule(ABC):
    """One way to schedule a function."""

    name: ClassVar[str]

    @abstractmethod
    def apply(self, func: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        """Return `func` scheduled for `target`, None if this rule does not apply to it."""
