"""How fast a compiled module is beside the original model, on its examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm_balanced.core.ratio import Ratio

FEW = 5  # pairs of calls: of fewer, the line says how many there were


@dataclass(frozen=True)
class Race:
    """One entry point in turns with the original model.

    Parameters
    ----------
    entry_point : str
    rounds : int
        Pairs of calls.
    microseconds : float
        Median time of a call of the module.
    speedup : Ratio
        How many times as fast as the original model the module is.
    blamed : tuple of (str, float)
        Where the module is slower: the functions that take most of its time, and their shares of it.
    """

    entry_point: str
    rounds: int
    microseconds: float
    speedup: Ratio
    blamed: tuple[tuple[str, float], ...] = ()

    @property
    def slower(self) -> bool:
        """Whether the original model is faster in half of the rounds at least."""
        return self.speedup.p50 < 1

    def __str__(self) -> str:
        ratio = self.speedup
        text = f"{ratio.p50:.2f} times as fast as eager PyTorch ({ratio.p20:.2f} to {ratio.p80:.2f}) on the examples"
        if self.rounds < FEW:
            text += f", in {'a single pair' if self.rounds == 1 else f'{self.rounds} pairs'} of calls"
        if not self.slower:
            return text
        blamed = ", ".join(f"{name} ({share:.0%})" for name, share in self.blamed)
        return f"SLOWER THAN PYTORCH: {text}" + (f"; most of its time goes to {blamed}" if blamed else "")

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Race":
        """Return what `dataclasses.asdict` wrote."""
        known = {**row, "speedup": Ratio(**row["speedup"]), "blamed": tuple((name, share) for name, share in row["blamed"])}
        return cls(**known)
