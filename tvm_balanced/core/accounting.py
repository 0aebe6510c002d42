"""What a model consists of beside its dense layers: operators with constant weights, and functions of the remainder."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OperatorUse:
    """One operator with a constant weight, or all products of two activations of an entry point.

    Parameters
    ----------
    name : str
        That of its weight in the model.
    kind : str
    shape : tuple of int
        Of its weight.
    addresses : tuple of int
        Of the constants that the weight is made of; operators with equal ones share it.
    elements : int
        Of the weight.
    zeros : int
        Elements that are zero.
    macs : int
        Multiply-adds of all its calls, at the sizes of the examples.
    calls : int
        Times that the entry point computes it.
    verdict : str
        "dense", or "folded" if it is evaluated while compiling.
    reason : str
        One sentence.
    entry_point : str
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    addresses: tuple[int, ...]
    elements: int
    zeros: int
    macs: int
    calls: int
    verdict: str
    reason: str
    entry_point: str = "main"


@dataclass(frozen=True)
class FunctionUse:
    """A function of TVM's own operators, with all its calls.

    Parameters
    ----------
    name : str
    calls : int
    macs : float
        Arithmetic of all calls at the sizes of the examples, two operations as one multiply-add.
    nbytes : int
        Bytes that all calls read and write.
    scheduled : bool
        Whether a rule has scheduled it.
    """

    name: str
    calls: int
    macs: float
    nbytes: int
    scheduled: bool
