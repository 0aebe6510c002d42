"""A baseline in Triton: a weight as one bit per column and its nonzeros one after another, times a few rows of x.

This is the format of unstructured competitors for decoding: bits (N, ceil(K / 32)) int32, values
(nonzeros,), starts (N,) int64. A program computes some rows. For each step of columns it loads the
bits, counts the set bits before each, and loads the values at these offsets.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch.nn.functional import pad

WORD = 32


@triton.jit
def _kernel(  # type: ignore[no-untyped-def]  # noqa: ANN202
    x,  # noqa: ANN001 - Triton reads annotations as constants or types of its own
    bits,  # noqa: ANN001
    values,  # noqa: ANN001
    starts,  # noqa: ANN001
    y,  # noqa: ANN001
    n,  # noqa: ANN001
    k,  # noqa: ANN001
    words,  # noqa: ANN001
    M: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
    WORD: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = rows < n
    at = tl.load(starts + rows, mask=inside, other=0)
    columns = tl.arange(0, WORDS * WORD)
    totals = tl.zeros((M, ROWS), dtype=tl.float32)
    for first in range(0, words, WORDS):
        place = first + columns // WORD
        word = tl.load(bits + rows[:, None] * words + place[None, :], mask=inside[:, None] & (place < words)[None, :], other=0)
        kept = (word >> (columns % WORD)[None, :]) & 1
        before = tl.cumsum(kept, 1) - kept
        value = tl.load(values + at[:, None] + before, mask=kept == 1, other=0.0).to(tl.float32)
        column = first * WORD + columns
        for m in tl.static_range(M):
            given = tl.load(x + m * k + column, mask=column < k, other=0.0).to(tl.float32)
            total = tl.sum(value * given[None, :], 1)
            totals += tl.where((tl.arange(0, M) == m)[:, None], total[None, :], 0.0)
        at += tl.sum(kept, 1)
    tl.store(y + tl.arange(0, M)[:, None] * n + rows[None, :], totals, mask=inside[None, :])


class Bitmask:
    """A weight (N, K) as bits and nonzeros, on the weight's device."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.shape, kept = weight.shape, weight != 0
        counts = kept.sum(1)
        whole = pad(kept, (0, -weight.shape[1] % WORD)).reshape(len(weight), -1, WORD).long()
        words = (whole << torch.arange(WORD, device=weight.device)).sum(2)
        self.bits = torch.where(words >= 1 << 31, words - (1 << 32), words).int()
        self.values, self.starts = weight[kept], counts.cumsum(0) - counts

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads."""
        return sum(part.numel() * part.element_size() for part in (self.bits, self.values, self.starts))

    def clone(self) -> "Bitmask":
        """Return a copy in new memory."""
        other = object.__new__(Bitmask)
        other.shape = self.shape
        other.bits, other.values, other.starts = (part.clone() for part in (self.bits, self.values, self.starts))
        return other

    def times(self, x: torch.Tensor, rows: int = 4, words: int = 8) -> torch.Tensor:
        """Return x (M, K) @ weight^T for M a power of two up to 8; `rows` and `words` are a program's step."""
        n, k = self.shape
        y = torch.empty(len(x), n, dtype=x.dtype, device=x.device)
        arguments: tuple[Any, ...] = (x, self.bits, self.values, self.starts, y, n, k, self.bits.shape[1])
        _kernel[(triton.cdiv(n, rows),)](*arguments, M=len(x), ROWS=rows, WORDS=words, WORD=WORD)
        return y
