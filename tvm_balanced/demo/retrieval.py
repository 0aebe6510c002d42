"""Short texts through the sentence encoder, and how well it finds one text by another."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from tvm_balanced.core.encoding import Array
from tvm_balanced.demo.minilm import tokenizer

TOKENS = 48  # of a text at most
BATCH = 64
POOL = 16  # batches of training texts that are sorted by length together
AMONG = 1000  # texts that a query is looked for in
Batch = tuple[torch.Tensor, torch.Tensor]  # token ids and mask, each (texts, at most TOKENS) int64
Encoder = Callable[..., torch.Tensor]


def tokens(texts: Sequence[str]) -> Batch:
    """Return texts as the encoder takes them, padded to the longest."""
    batch: Any = tokenizer()(list(texts), padding=True, truncation=True, max_length=TOKENS, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


def batches(texts: Sequence[str], size: int = BATCH) -> list[Batch]:
    """Return batches of texts, those of similar length together."""
    ordered = sorted(texts, key=len)
    return [tokens(ordered[start : start + size]) for start in range(0, len(ordered), size)]


class TrainingBatches:
    """Batches of texts in an order of their own each time they are gone through.

    Texts of similar length come together, out of every POOL batches: steps take 0.65x the time of those with texts as they come,
    which are all padded to the longest.
    """

    def __init__(self, texts: Sequence[str], size: int = 32, seed: int = 0) -> None:
        self._texts, self._size, self._random = list(texts), size, random.Random(seed)

    def __iter__(self) -> Iterator[Batch]:
        order = self._random.sample(self._texts, len(self._texts))
        for start in range(0, len(order), self._size * POOL):
            pool = sorted(order[start : start + self._size * POOL], key=len)
            parts = [pool[at : at + self._size] for at in range(0, len(pool), self._size)]
            yield from map(tokens, self._random.sample(parts, len(parts)))


def encode(model: Encoder, texts: Sequence[str]) -> torch.Tensor:
    """Return the embeddings (texts, 384), computed in batches of texts of similar length."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = torch.empty(len(texts), 384)
    for start in range(0, len(texts), BATCH):
        places = order[start : start + BATCH]
        with torch.no_grad():
            found[places] = model(*tokens([texts[i] for i in places]))
    return found


def ranks(queries: torch.Tensor, texts: torch.Tensor) -> Array:
    """Return the place, from 1 on, at which each query's own text is found: (queries,) int64.

    Parameters
    ----------
    queries, texts : torch.Tensor (queries, 384)
        Embeddings of each query and of what it should find; the others are those of its group of AMONG queries.
    """
    found = []
    for start in range(0, len(queries), AMONG):
        similarity = queries[start : start + AMONG] @ texts[start : start + AMONG].T
        found.append((similarity > similarity.diagonal()[:, None]).sum(1) + 1)
    return np.asarray(torch.cat(found).numpy())
