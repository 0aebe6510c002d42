"""What an artifact stores for its self-test: some values of inputs, and of what the original model gives for them.

Few values are enough, and keep an artifact small: an input is its stored values over and over again, and of an output values at
even distances are compared.
"""

from dataclasses import dataclass

import numpy as np

from tvm_balanced.core.encoding import Array

MOST_OF_INPUT = 16384  # values that are stored of an input
MOST_OF_OUTPUT = 4096


@dataclass(frozen=True)
class StoredTensor:
    """Some values of an input or of an output.

    Parameters
    ----------
    name : str
    values : (n,) array
    shape : tuple of int
        Of the whole tensor.
    allowed : float or None
        Of an output: how far a value may be from the stored one; None where only its shape and dtype are compared.
    """

    name: str
    values: Array
    shape: tuple[int, ...]
    allowed: float | None = None

    def whole(self) -> Array:
        """Return an input, all of it."""
        return np.resize(self.values, self.shape)


@dataclass(frozen=True)
class StoredTest:
    """The self-test of one entry point, and the milliseconds of a call where it was compiled; None if it was not run there."""

    inputs: tuple[StoredTensor, ...]
    outputs: tuple[StoredTensor, ...]
    milliseconds: float | None = None


def stored_input(name: str, array: Array) -> StoredTensor:
    """Store an input: all of it if it is small, else its beginning; one value if it has no other, as an empty cache."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.size > 1 and (flat.view(np.uint8).reshape(flat.size, -1) == flat[:1].view(np.uint8)).all():
        flat = flat[:1]
    row = max(array.shape[-1], 1) if array.ndim else 1
    few = MOST_OF_INPUT // row * row or MOST_OF_INPUT  # whole rows: those of a mask belong together
    return StoredTensor(name, flat[: few if flat.size > MOST_OF_INPUT else flat.size].copy(), array.shape)


def stored_output(name: str, array: Array, allowed: float | None) -> StoredTensor:
    """Store values of an output at even distances."""
    return StoredTensor(name, sample(array, min(array.size, MOST_OF_OUTPUT)), array.shape, allowed)


def sample(array: Array, count: int) -> Array:
    """Return `count` values of an array at even distances, (count,); the i-th is that at i * size // count."""
    places = [i * array.size // count for i in range(count)]
    return np.ascontiguousarray(array).reshape(-1)[places]
