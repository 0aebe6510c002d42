"""Comparing the outputs of a compiled module with those of the original model."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.core.loss import relative_l2
from tvm_balanced.core.text_table import table
from tvm_balanced.core.tolerance import ALONE, SERIES, Growth

# In half precision. NEAR units of it are always near. Beyond them MOVED times what roundings drawn anew move the original model's
# output by is allowed, SPREAD times in root mean square: compiled models differed by up to 0.5 and 0.4 times that.
NEAR, MOVED, SPREAD = 4, 3, 2
# Where outputs differ, the original model is run RUNS times with other roundings; NOISES times the largest move of an element is
# allowed: of eight normal numbers the largest is less than a tenth of the deviation once in 1e9 times.
RUNS, NOISES = 8, 8


@dataclass(frozen=True)
class OutputDifference:
    """One output: its largest absolute difference, what is allowed, and any other fault.

    Parameters
    ----------
    name : str
    error, allowed : float
        `allowed` is the tolerance times the largest finite expected value, or times 1 if that is less.
    fault : str
        What is wrong besides values, such as another dtype or shape; empty if nothing is.
    """

    name: str
    error: float
    allowed: float
    fault: str = ""

    @property
    def ok(self) -> bool:
        """Whether the output is as it should be."""
        return not self.fault and self.error <= self.allowed

    def __str__(self) -> str:
        return self.fault or f"differs from the original model by {self.error:.2e}; {self.allowed:.2e} is allowed"


@dataclass(frozen=True)
class Comparison:
    """What came of running both models on some inputs.

    Parameters
    ----------
    inputs : str
        Which inputs: "the examples", "other values", "s0 = 3", ...
    outputs : tuple of OutputDifference
        Empty if the original model raised.
    note : str
        Why there are no outputs, or why a difference does not count.
    """

    inputs: str
    outputs: tuple[OutputDifference, ...]
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether every output is as it should be, or a difference says nothing."""
        return bool(self.note) or all(output.ok for output in self.outputs)

    @property
    def error(self) -> float:
        """The largest absolute difference of any output."""
        return max((output.error for output in self.outputs), default=0.0)

    @property
    def worst(self) -> OutputDifference:
        """The output that is furthest from what is allowed."""
        return max(self.outputs, key=lambda output: (bool(output.fault), output.error / max(output.allowed, 1e-300)))

    def __str__(self) -> str:
        rows = [(o.name, f"{o.error:.1e}", f"{o.allowed:.1e}", o.fault or ("" if o.ok else "differs")) for o in self.outputs]
        return f"on {self.inputs}{f': {self.note}' if self.note else ''}\n" + table(("output", "largest", "allowed", ""), rows)


def compare_outputs(
    specs: Sequence[TensorSpec],
    want: Sequence[Array],
    got: Sequence[Array],
    tolerance: float | None = None,
    rounding: float = 0.0,
    growths: Sequence[Growth] = (),
    max_loss: float | None = None,
) -> tuple[OutputDifference, ...]:
    """Compare outputs one by one.

    Parameters
    ----------
    specs : sequence of TensorSpec
        Names of the outputs.
    want, got : sequences of arrays
        Of the original model and of the compiled one.
    tolerance : float, optional
        Relative to the largest expected value; by default that of `growths`, or by dtype if there are none.
    rounding : float
        What the kernels' rounding of weights may add to a default tolerance.
    growths : sequence of Growth
        What each output went through.
    max_loss : float, optional
        In place of all these, for a model that rounds: what an output may lose, as the norm of its difference relative to its
        own. A difference that rounding to its dtype explains is always allowed.
    """
    growths = growths if len(growths) == len(want) else [Growth(math.inf, str(array.dtype)) for array in want]
    if len(want) != len(got):
        fault = f"the module gives {len(got)} outputs, the model {len(want)}"
        return (OutputDifference("the outputs", float("inf"), 0.0, fault),)
    pairs = zip(_names(specs, len(want)), want, got, growths, strict=True)
    return tuple(_compare(*one, tolerance, rounding, max_loss) for one in pairs)


def far_in_half(outputs: Sequence[OutputDifference], want: Sequence[Array], growths: Sequence[Growth]) -> list[int]:
    """Return the places of outputs that went through half precision and differ by more than NEAR units of it.

    What is allowed there grows with depth and leaves room for faults. Recurrent layers are left out: torch rounds each of their
    steps, which drawing the roundings of their results anew does not show.
    """
    return [
        place
        for place, (output, array, growth) in enumerate(zip(outputs, want, growths, strict=False))
        if growth.half and not growth.steps and output.error > NEAR * growth.half * difference(array, array)[1]
    ]


def beside_noise(
    output: OutputDifference, want: Array, got: Array, runs: Sequence[Array], allowed: float | None = None
) -> OutputDifference:
    """Return how an output in half precision differs, held to what roundings drawn anew move it by in some runs.

    What else is allowed is `allowed`, by default that of `output`.
    """
    moves = [differences(want, run) for run in runs]
    limit, spread = MOVED * max(float(move.max()) for move in moves), SPREAD * max(map(_root_mean_square, moves))
    limit = min(limit, output.allowed if allowed is None else allowed)
    lost, fault = _root_mean_square(differences(want, got)), ""
    if output.error <= limit and lost > spread:
        fault = f"differs from the original model by {lost:.2e} in root mean square; {spread:.2e} is what roundings explain"
    return OutputDifference(output.name, output.error, limit, fault)


def moves_of(want: Sequence[Array], runs: Sequence[Sequence[Array]]) -> list[Array]:
    """Return how far some runs with roundings drawn anew move each element of the original model's outputs."""
    moves = [np.zeros(np.shape(array)) for array in want]
    for run in runs:
        moves = [np.maximum(move, differences(w, f)) for move, w, f in zip(moves, want, run, strict=True)]
    return moves


def settled(want: Sequence[Array], got: Sequence[Array], moves: Sequence[Array]) -> list[Array]:
    """Return outputs with the expected value wherever roundings explain another."""
    return [np.where(differences(w, g) <= NOISES * m, w, g) for w, g, m in zip(want, got, moves, strict=True)]


def note_on(moves: Sequence[Array]) -> str:
    """Return what is said where roundings explain all differences."""
    largest = max(float(move.max(initial=0.0)) for move in moves)
    return f"roundings alone move the original model's outputs by {largest:.1e}"


def _root_mean_square(error: Array) -> float:
    return float(np.sqrt(np.mean(np.square(error))))


def _names(specs: Sequence[TensorSpec], count: int) -> Iterator[str]:
    return (specs[i].name if i < len(specs) else f"output_{i}" for i in range(count))


def _compare(
    name: str, want: Array, got: Array, growth: Growth, tolerance: float | None, rounding: float, max_loss: float | None
) -> OutputDifference:
    want, got = np.asarray(want), np.asarray(got)
    if want.dtype != got.dtype or want.shape != got.shape:
        fault = f"is {got.dtype}{list(got.shape)}, in the original model {want.dtype}{list(want.shape)}"
        return OutputDifference(name, float("inf"), 0.0, fault)
    if max_loss is not None:
        return OutputDifference(name, *_worst_rounded(want, got, growth, max_loss))
    if tolerance is None and growth.alone and not rounding:
        return OutputDifference(name, *_worst_alone(want, got, growth))
    allowed = max(growth.tolerance, rounding) if tolerance is None else tolerance
    error, scale = difference(want, got)
    return OutputDifference(name, error, allowed * scale)


def _worst_rounded(want: Array, got: Array, growth: Growth, max_loss: float) -> tuple[float, float]:
    """Return (largest difference, how large it may be if all others grow with it until the output has lost `max_loss`)."""
    error, scale = difference(want, got)
    lost, exact = relative_l2([(want, got)]), growth.tolerance * scale
    return error, exact if lost == 0 or not math.isfinite(lost) else max(exact, error * max_loss / lost)


def _worst_alone(want: Array, got: Array, growth: Growth) -> tuple[float, float]:
    """Return (difference, what is allowed) of the element that is furthest from what is allowed for it by itself."""
    error = differences(want, got).reshape(-1)
    if not error.size:
        return 0.0, 0.0
    size = np.nan_to_num(np.abs(np.asarray(want, np.float64)), posinf=0.0).reshape(-1)
    allowed = ALONE * growth.deviation * size + SERIES
    worst = int(np.argmax(error / allowed))
    return float(error[worst]), float(allowed[worst])


def difference(want: Array, got: Array) -> tuple[float, float]:
    """Return (largest absolute difference, largest finite |want| or 1 if that is less); equal NaNs and infinities differ by 0."""
    wide = np.asarray(want, np.float64)
    finite = np.abs(wide[np.isfinite(wide)])
    return float(differences(want, got).max(initial=0.0)), max(1.0, float(finite.max(initial=0.0)))


def differences(want: Array, got: Array) -> Array:
    """|want - got| in float64: 0 for equal NaNs and infinities, infinite for a NaN beside a number."""
    wide, other = np.asarray(want, np.float64), np.asarray(got, np.float64)
    same = (wide == other) | (np.isnan(wide) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(wide - other))
    return np.where(np.isnan(error), np.inf, error)
