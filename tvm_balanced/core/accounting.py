"""What a model consists of beside its dense layers: operators with constant weights, and functions of the remainder."""

from collections.abc import Mapping
from dataclasses import dataclass, field


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


@dataclass(frozen=True)
class Folded:
    """A weight that was evaluated from others before anything was compiled.

    Parameters
    ----------
    elements : int
        Weights of the model that it stands for: at most its own elements, and at most those that it is made of.
    address : int
        Of the weight that it is the whole of; its own if it is a part. What has an equal one counts once.
    """

    elements: int
    address: int


@dataclass(frozen=True)
class Unread:
    """Elements of a weight that no output depends on, and how many of them are zero."""

    elements: int
    zeros: int


@dataclass(frozen=True)
class WeightOrigins:
    """Where the weights of an imported model come from; empty if its way in folds none.

    Parameters
    ----------
    folded : mapping
        Address of a folded weight to what it stands for.
    unread : mapping
        Name of a weight of the model to what of it no output depends on.
    """

    folded: Mapping[int, Folded] = field(default_factory=dict)
    unread: Mapping[str, Unread] = field(default_factory=dict)

    def address(self, address: int) -> int:
        """Return the address of the model's weight that one is the whole of."""
        return self.folded[address].address if address in self.folded else address

    def elements(self, addresses: tuple[int, ...], size: int) -> int:
        """Return how many of the model's weights one of `size` elements stands for, made of the constants at some addresses."""
        stands = [self.folded[address].elements for address in addresses if address in self.folded]
        return min([size, sum(stands)]) if stands and len(stands) == len(set(addresses)) else size

    @classmethod
    def merged(cls, origins: "list[WeightOrigins]") -> "WeightOrigins":
        """Return those of a model of several entry points: unread is what none of them reads."""
        folded = {address: one for each in origins for address, one in each.folded.items()}
        names = set.intersection(*(set(each.unread) for each in origins)) if origins else set()
        least = {name: min((each.unread[name] for each in origins), key=lambda one: one.elements) for name in names}
        return cls(folded, {name: least[name] for name in origins[0].unread if name in names} if origins else {})
