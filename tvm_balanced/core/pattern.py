"""The balanced pattern: every block of a row keeps the same number of nonzeros."""

import re
from dataclasses import dataclass

from tvm_balanced.errors import PatternError

MAX_BLOCK = 256  # an index inside a block is one byte


@dataclass(frozen=True, order=True)
class BalancedPattern:
    """`nnz` of every `block` consecutive elements of a row are kept.

    The last block of a row may be shorter. A block of r < `block` elements keeps ceil(nnz * r / block), so that a
    coarser pattern always covers a finer one, tails included.

    Parameters
    ----------
    nnz : int
        Elements kept in a whole block, 1 to `block`.
    block : int
        Elements in a whole block, 1 to 256.

    Raises
    ------
    PatternError
        Where either number is out of range.
    """

    nnz: int
    block: int

    def __post_init__(self) -> None:
        if not 1 <= self.block <= MAX_BLOCK:
            raise PatternError(f"pattern {self} has a block of {self.block}; a block holds 1 to {MAX_BLOCK} elements")
        if not 1 <= self.nnz <= self.block:
            raise PatternError(f"pattern {self} keeps {self.nnz} of {self.block}; it must keep 1 to {self.block}")

    @classmethod
    def parse(cls, text: "str | BalancedPattern") -> "BalancedPattern":
        """Read "nnz:block", for instance "2:16" for 2 of every 16.

        Raises
        ------
        PatternError
            Where the text has another form, or names an impossible pattern.
        """
        if isinstance(text, BalancedPattern):
            return text
        match = re.fullmatch(r"\s*(\d{1,9})\s*:\s*(\d{1,9})\s*", str(text))
        if match is None:
            shown = str(text) if str(text).isprintable() else ascii(str(text))
            raise PatternError(
                f'pattern "{shown:.60}" is not of the form NNZ:BLOCK; write for instance 2:16 to keep 2 of every 16'
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.nnz}:{self.block}"

    @property
    def density(self) -> float:
        """Share of elements kept, 0 to 1."""
        return self.nnz / self.block

    @property
    def sparsity(self) -> float:
        """Share of elements dropped, 0 to 1."""
        return 1 - self.density

    def blocks(self, k: int) -> int:
        """Blocks in a row of `k` elements, the shorter last one included."""
        return -(-k // self.block)

    def tail(self, k: int) -> int:
        """Elements in the last block of a row of `k` elements, 1 to `block`."""
        return k - (self.blocks(k) - 1) * self.block

    def kept(self, width: int) -> int:
        """Elements that a block of `width` elements keeps."""
        return -(-self.nnz * width // self.block)

    def coarsen(self, block: int) -> "BalancedPattern":
        """Return the pattern over a longer block that every weight of this pattern also has, at the same density.

        Raises
        ------
        PatternError
            Where `block` is not a multiple of this pattern's block.
        """
        factor, rest = divmod(block, self.block)
        if rest or factor < 1:
            raise PatternError(f"pattern {self} cannot be coarsened to blocks of {block}; choose a multiple of {self.block}")
        return BalancedPattern(self.nnz * factor, block)
