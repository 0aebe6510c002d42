"""Draw tokens from logits."""

from numbers import Real

import numpy as np

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.validation import check_count, require
from tvm_balanced.errors import InputError


class Sampling:
    """Draws tokens as transformers does: logits over temperature, the `top_k` most probable, of these the fewest whose
    probabilities add up to `top_p`.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    def __init__(self, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0, seed: int = 0) -> None:
        for name, value in (("temperature", temperature), ("top_p", top_p)):
            require(name, value, Real, "a number above 0")
        if not temperature > 0:
            raise InputError(
                f"temperature is {temperature}; give a number above 0, or do_sample=False for the most probable token"
            )
        if not 0 < top_p <= 1:
            raise InputError(f"top_p is {top_p}; give a number above 0 and at most 1")
        if top_k is not None:
            check_count("top_k", top_k)
        self.temperature, self.top_k, self.top_p = float(temperature), top_k, float(top_p)
        self.rng = np.random.default_rng(seed)

    def choose(self, logits: Array) -> Array:
        """Return a token for each row of logits (B, V) float32."""
        kept = self.probabilities(logits)
        drawn = self.rng.random((len(kept), 1))
        tokens: Array = np.minimum((kept.cumsum(-1) < drawn).sum(-1), kept.shape[1] - 1)
        return tokens

    def probabilities(self, logits: Array) -> Array:
        """Return the probability of each token (B, V) float64; those that are not among the kept ones have 0."""
        scores = logits.astype(np.float64) / self.temperature
        if self.top_k is not None and self.top_k < scores.shape[1]:
            least = np.partition(scores, -self.top_k, -1)[:, -self.top_k, None]
            scores = np.where(scores < least, -np.inf, scores)
        probable = np.exp(scores - scores.max(-1, keepdims=True))
        probable /= probable.sum(-1, keepdims=True)
        if self.top_p == 1:  # nothing is dropped
            whole: Array = probable
            return whole
        order = np.argsort(-probable, -1, kind="stable")
        ranked = np.take_along_axis(probable, order, -1)
        before = ranked.cumsum(-1) - ranked
        dropped = np.zeros_like(probable, bool)
        np.put_along_axis(dropped, order, before >= self.top_p, -1)
        probable = np.where(dropped, 0.0, probable)
        kept: Array = probable / probable.sum(-1, keepdims=True)
        return kept
