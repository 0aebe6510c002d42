"""MiniLM on the retrieval task: what is made of the ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from benchmarks.study.debian import Package
from tvm_balanced.core.encoding import Array
from tvm_balanced.demo.retrieval import encode, ranks

RESAMPLES = 2000


@dataclass(frozen=True)
class Quality:
    """What a model does on the task.

    Parameters
    ----------
    ranks : array (queries,) int
        The place of the right description among AMONG, 1 for the first.
    embeddings : torch.Tensor (2 * queries, 384)
        Of the synopses, then of the descriptions.
    """

    ranks: Array
    embeddings: torch.Tensor

    @property
    def mrr(self) -> float:
        """The mean of 1 / rank."""
        return float((1 / self.ranks).mean())

    @property
    def first_hits(self) -> float:
        """The share of queries whose description comes first."""
        return float((self.ranks == 1).mean())

    def cosine(self, dense: "Quality") -> float:
        """Return the mean cosine to the dense model's embeddings."""
        return float((self.embeddings * dense.embeddings).sum(1).mean())

    def share_of(self, dense: "Quality") -> tuple[float, float, float]:
        """Return MRR over the dense model's, and the ends of its 95% interval: a paired bootstrap over queries."""
        ours, theirs = 1 / self.ranks, 1 / dense.ranks
        drawn = _drawn(len(ours))
        low, high = np.percentile(ours[drawn].mean(1) / theirs[drawn].mean(1), (2.5, 97.5))
        return float(ours.mean() / theirs.mean()), float(low), float(high)

    def change_from(self, exact: "Quality") -> tuple[float, float, float]:
        """Return MRR less that of another model, and the ends of its 95% interval: a paired bootstrap over queries."""
        change = 1 / self.ranks - 1 / exact.ranks
        low, high = np.percentile(change[_drawn(len(change))].mean(1), (2.5, 97.5))
        return float(change.mean()), float(low), float(high)


def _drawn(queries: int) -> Array:
    """Return RESAMPLES draws of as many queries, (RESAMPLES, queries) int64."""
    return np.random.default_rng(0).integers(queries, size=(RESAMPLES, queries))


def evaluate(model: nn.Module, queries: Sequence[Package]) -> Quality:
    """Find every query's description among those of its group of AMONG queries."""
    synopses = encode(model, [package.synopsis for package in queries])
    descriptions = encode(model, [package.description for package in queries])
    return quality(torch.cat([synopses, descriptions]))


def quality(embeddings: torch.Tensor) -> Quality:
    """Return what embeddings (2 * queries, 384) of synopses and descriptions are worth."""
    return Quality(ranks(*embeddings.chunk(2)), embeddings)


def texts_of(packages: Sequence[Package]) -> list[str]:
    """Return synopses and descriptions."""
    return [text for package in packages for text in (package.synopsis, package.description)]
