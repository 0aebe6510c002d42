"""Operators that a model may leave to PyTorch at run time, and those that it does leave to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MARK = "_of_torch"  # ends the name of a node in that of a variable


@dataclass(frozen=True)
class TorchOperator:
    """One operator of a program that may be left to PyTorch.

    Parameters
    ----------
    node : str
        Its name in the program.
    operator : str
        For instance "aten.cumsum.default".
    layer : str
        The layer that it is in, "" for the model itself.
    microseconds : float
        What it takes in PyTorch, on the examples.
    pointwise : bool
        Whether it computes each element by itself.
    weights : tuple of str
        The layers whose weights it reads.
    """

    node: str
    operator: str
    layer: str
    microseconds: float
    pointwise: bool
    weights: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """How the names of Relax's variables begin that stand for its results."""
        return f"{self.node}{MARK}"


@dataclass(frozen=True)
class LeftToTorch:
    """One operator that is left to PyTorch, with what a call took when that was decided.

    Parameters
    ----------
    operator, layer : str
        As TorchOperator has them.
    function : str
        The compiled function that was slower.
    microseconds, torch_microseconds : float
        Of all calls of that function, and of all of PyTorch's operators that it stood for.
    """

    operator: str
    layer: str
    function: str
    microseconds: float
    torch_microseconds: float

    def __str__(self) -> str:
        return f"{self.operator} in layer {self.layer!r}" if self.layer else self.operator

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "LeftToTorch":
        """Return what `dataclasses.asdict` wrote."""
        return cls(**row)
