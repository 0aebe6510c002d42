"""How much a compiled module's outputs may differ from the original model's.

A rounding moves a value by at most the unit roundoff u of its dtype, and independent ones add up as a random walk does: after n
of them the deviation is sqrt(n) u, of a sum of K numbers sqrt(K) u (docs/usage.md has the derivation).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

# Half the distance from 1 to the next number of the dtype.
UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
# What a model may differ by of which nothing else is known, relative to the largest output (or 1 if that is less), by dtype.
TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
# CANCELLED deviations are allowed, because values that cancel magnify roundings, but no more than TOLERANCE. DEEP deviations are
# always allowed: no larger error was seen.
CANCELLED, DEEP = 64, 8
ALONE = 4  # one operator: half precision is rounded once, and float32 by a series that is this good
SERIES = 2e-6  # absolute error of gelu, the least exact of our series


@dataclass(frozen=True)
class Growth:
    """What an output went through.

    Parameters
    ----------
    deviation : float
        Standard deviation of its rounding errors, relative to the values it is made of.
    dtype : str
        The narrowest floating dtype on the way; empty if there is none.
    operators : int
        How many that round lie on the way.
    mixes : bool
        Whether one of them makes a value from many, as a sum does.
    steps : bool
        Whether one of them is a whole recurrent layer, which rounds in each step.
    """

    deviation: float
    dtype: str
    operators: int = 0
    mixes: bool = False
    steps: bool = False

    def after(self, before: Iterable["Growth"]) -> "Growth":
        """Return the growth of an operator's result from its own and those of its operands, of which the worst counts."""
        before = list(before)
        dtypes = [growth.dtype for growth in (self, *before) if growth.dtype]
        return Growth(
            math.hypot(self.deviation, max((growth.deviation for growth in before), default=0.0)),
            max(dtypes, key=UNIT.__getitem__, default=""),
            self.operators + max((growth.operators for growth in before), default=0),
            self.mixes or any(growth.mixes for growth in before),
            self.steps or any(growth.steps for growth in before),
        )

    @property
    def tolerance(self) -> float:
        """What is allowed, relative to the largest value of the output, or to 1 if that is less."""
        usual = TOLERANCE.get(self.dtype, 0.0)
        if not math.isfinite(self.deviation):  # nothing else is known
            return usual
        return min(CANCELLED * self.deviation, max(usual, DEEP * self.deviation))

    @property
    def alone(self) -> bool:
        """Whether a single operator stands between the inputs and the output, so that every value must be right by itself."""
        return self.operators == 1 and not self.mixes

    @property
    def half(self) -> float:
        """The unit roundoff of the half precision that it went through; 0 if it went through none."""
        unit = UNIT.get(self.dtype, 0.0)
        return unit if unit > UNIT["float32"] else 0.0


EXACT = Growth(0.0, "")
