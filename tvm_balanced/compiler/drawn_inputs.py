"""Inputs that calls may bring and the examples do not show: other values, padding, zeros, the ends of a table, other sizes."""

from collections.abc import Iterator, Mapping

import numpy as np

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import ImportedFunction, Range, TensorSpec

Inputs = list[Array]


def drawn_inputs(entry: ImportedFunction, seed: int = 0) -> Iterator[tuple[str, Inputs]]:
    """Yield (what it is, inputs) for an entry point, each unlike the examples in one way; the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    yield "other values", [_shuffled(a, rng) for a in entry.examples]
    if any(_is_mask(a) for a in entry.examples):
        yield "masks with padding", [_padded(a) if _is_mask(a) else _shuffled(a, rng) for a in entry.examples]
    yield "zeros", [a if _is_mask(a) else np.zeros_like(a) for a in entry.examples]
    if entry.id_ranges:
        for what, place in (("the smallest ids", 0), ("the largest ids", 1)):
            named, ids = zip(entry.inputs, entry.examples, strict=True), entry.id_ranges
            yield what, [np.full_like(a, ids[spec.name][place]) if spec.name in ids else a for spec, a in named]
    for sizes in _other_sizes(entry):
        text = ", ".join(f"{symbol} = {size}" for symbol, size in sizes.items())
        yield text, [_resized(spec, a, sizes, rng) for spec, a in zip(entry.inputs, entry.examples, strict=True)]


def _is_mask(array: Array) -> bool:
    """Whether an input of booleans or integers holds ones and zeros alone, over more than one place."""
    if array.dtype.kind not in "bui" or not array.size or array.ndim < 2:
        return False
    return bool(np.isin(array, (0, 1)).all()) and bool(array.any())


def _shuffled(array: Array, rng: np.random.Generator) -> Array:
    """Return the values of an array in another order: whatever they must be, such as positive, they stay."""
    return rng.permutation(array.reshape(-1)).reshape(array.shape) if array.ndim else array


def _padded(array: Array) -> Array:
    """Return a mask whose rows end in padding, each one place before that of the row above, in a cycle; the first place stays."""
    padded = array.copy()
    length = array.shape[-1]
    for row, values in enumerate(padded.reshape(-1, length)):
        values[max(1, length - 1 - row % max(1, length // 2) - length // 4) :] = 0
    return padded


def _other_sizes(entry: ImportedFunction) -> Iterator[dict[str, int]]:
    """Yield two other choices of the sizes that are known only at the call: one smaller, one larger, if they are allowed."""
    known = entry.sizes
    plain = {symbol: size for symbol, size in known.items() if symbol.isidentifier()}
    if not plain or len(plain) < len(known):  # an expression of others, such as 2*s0, follows from them
        return
    for change in (-1, 3):
        sizes = {symbol: _within(size + change, entry.ranges.get(symbol, (1, None))) for symbol, size in plain.items()}
        if sizes != plain:
            yield sizes


def _within(size: int, allowed: Range) -> int:
    low, high = allowed
    size = max(size, low, 2)
    return size if high is None else min(size, high)


def _resized(spec: TensorSpec, array: Array, sizes: Mapping[str, int], rng: np.random.Generator) -> Array:
    """Return an input of other sizes, filled with the values of the example."""
    shape = [sizes.get(d, have) if isinstance(d, str) else have for d, have in zip(spec.shape, array.shape, strict=True)]
    values = _shuffled(array, rng)
    for axis, size in enumerate(shape):
        values = np.take(values, np.arange(size) % max(1, values.shape[axis]), axis)
    return np.array(values, order="C")  # ascontiguousarray gives a single number a dimension
