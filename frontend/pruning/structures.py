"""Which elements of a weight may be pruned together: the balanced pattern, and the kinds that it is compared with."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import PatternError

EXAMPLES = "NNZ:BLOCK, for instance 2:16, 4:16 within 2:4, or else unstructured:0.75, block8x8:0.75 or vector8:0.75"


@dataclass(frozen=True)
class Unstructured:
    """The share `sparsity` of a whole weight is dropped, wherever it lies; only masks, no kernel uses it."""

    sparsity: float

    def __post_init__(self) -> None:
        _check_sparsity(self.sparsity)

    def __str__(self) -> str:
        return f"unstructured:{self.sparsity:g}"


@dataclass(frozen=True)
class Tiles:
    """The share `sparsity` of the tiles of `rows` x `columns` elements is dropped whole; only masks, no kernel uses it.

    With one column it is the vector sparsity of the field: runs of `rows` elements of one column.
    """

    rows: int
    columns: int
    sparsity: float

    def __post_init__(self) -> None:
        _check_sparsity(self.sparsity)
        if self.rows < 1 or self.columns < 1:
            raise PatternError(f"a tile is {self.rows}x{self.columns}; give at least one row and one column")

    def __str__(self) -> str:
        kind = f"vector{self.rows}" if self.columns == 1 else f"block{self.rows}x{self.columns}"
        return f"{kind}:{self.sparsity:g}"


@dataclass(frozen=True)
class TwoLevel:
    """A balanced pattern whose elements also keep a finer one: with 2:4 inside, sparse tensor cores take the weight, too.

    `4:16 within 2:4` keeps 4 of every 16, and of every 4 at most 2.
    """

    outer: BalancedPattern
    inner: BalancedPattern

    def __post_init__(self) -> None:
        if self.outer.block % self.inner.block or self.outer.density > self.inner.density:
            raise PatternError(
                f"pattern {self} is impossible; the second has blocks of which the first's are made, and keeps as large a share"
            )

    def __str__(self) -> str:
        return f"{self.outer} within {self.inner}"


Structure = BalancedPattern | TwoLevel | Unstructured | Tiles

_FORMS: tuple[tuple[str, Callable[..., Structure]], ...] = (
    (r"(\d+:\d+)\s+within\s+(\d+:\d+)", lambda outer, inner: TwoLevel(*map(BalancedPattern.parse, (outer, inner)))),
    (r"unstructured:([\d.]+)", lambda s: Unstructured(float(s))),
    (r"block(\d+)x(\d+):([\d.]+)", lambda r, c, s: Tiles(int(r), int(c), float(s))),
    (r"vector(\d+):([\d.]+)", lambda r, s: Tiles(int(r), 1, float(s))),
)


def parse_structure(text: str | Structure) -> Structure:
    """Read "2:16", "4:16 within 2:4", "unstructured:0.75", "block8x8:0.75" or "vector8:0.75".

    What is parsed already is returned as it is.

    Raises
    ------
    PatternError
        Where the text has another form, or names what is impossible.
    """
    if not isinstance(text, str):
        return text if isinstance(text, (TwoLevel, Unstructured, Tiles)) else BalancedPattern.parse(text)
    for form, make in _FORMS:
        match = re.fullmatch(form, text.strip())
        if match:
            try:
                return make(*match.groups())
            except ValueError as error:
                raise error if isinstance(error, PatternError) else _unreadable(text) from None
    if re.match(r"\s*[a-z]", text):
        raise _unreadable(text)
    return BalancedPattern.parse(text)


def _unreadable(text: str) -> PatternError:
    return PatternError(f'pattern "{text}" cannot be read; write {EXAMPLES}')


def _check_sparsity(sparsity: float) -> None:
    if not 0 <= sparsity < 1:
        raise PatternError(f"a sparsity is {sparsity}; give the share of zeros, from 0 to less than 1")
