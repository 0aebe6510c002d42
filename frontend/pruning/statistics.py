"""What a layer's inputs X (M, K) are like, summed over batches: X^T X, or its diagonal alone."""

from collections.abc import Iterable
from functools import cached_property

import torch

from tvm_balanced.errors import WeightError

DAMPING = 0.01  # of the mean diagonal, as in SparseGPT's paper
MOST_DAMPING = 1e3  # a Hessian that cannot be factored with this cannot be at all


class InputStatistics:
    """Sums over rows x of X in float32.

    Parameters
    ----------
    k : int
        Elements of a row.
    hessian : bool
        Whether X^T X is summed, K x K elements; else its diagonal.
    """

    def __init__(self, k: int, hessian: bool, device: torch.device | str = "cpu") -> None:
        self.rows = 0
        self._hessian = torch.zeros(k, k, device=device) if hessian else None
        self._squares = torch.zeros(k, device=device)

    def add(self, x: torch.Tensor) -> None:
        """Count the rows of x (M, K), of any dtype."""
        x = x.detach().to(self._squares.device, torch.float32)
        self.rows += x.shape[0]
        if self._hessian is None:
            self._squares += x.square().sum(0)
        else:
            self._hessian.addmm_(x.T, x)

    @property
    def hessian(self) -> torch.Tensor:
        """X^T X (K, K) float32; the Hessian of the squared error of a row of the output is twice it."""
        if self._hessian is None:
            raise ValueError("only the diagonal was summed")
        return self._hessian

    @property
    def squares(self) -> torch.Tensor:
        """The squared norm of each column of X: (K,) float32."""
        return self._squares if self._hessian is None else self._hessian.diagonal()

    @cached_property
    def inverse_factor(self) -> torch.Tensor:
        """The upper Cholesky factor of the inverse of the damped Hessian: (K, K) float32; ask when all rows are counted."""
        return inverse_factor(self.hessian)

    def lost(self, weight: torch.Tensor, pruned: torch.Tensor) -> tuple[float, float]:
        """Return (squared difference of the outputs of two weights (N, K), squared output of the first).

        With the diagonal alone, inputs count as uncorrelated.
        """
        return self.energy(pruned.float() - weight.float()), self.energy(weight.float())

    def energy(self, weight: torch.Tensor) -> float:
        """Return the squared output of a weight (N, K) float32."""
        if self._hessian is None:
            return float((weight.square() * self._squares).sum())
        return float(((weight @ self._hessian) * weight).sum())


def joined(parts: Iterable[InputStatistics]) -> InputStatistics:
    """Return the sums over several sets of rows."""
    first, *rest = parts
    if not rest:
        return first
    k = first.squares.shape[0]
    total = InputStatistics(k, first._hessian is not None, first.squares.device)
    for part in (first, *rest):
        total.rows += part.rows
        if total._hessian is None:
            total._squares += part._squares
        else:
            total._hessian += part.hessian
    return total


def inverse_factor(hessian: torch.Tensor, damping: float = DAMPING) -> torch.Tensor:
    """Return the upper Cholesky factor of the inverse of a damped Hessian (K, K), in its dtype.

    The square of element (i, i) is the first element of the inverse of the Hessian's rows and columns from i on. An input
    that is always 0 gets the mean diagonal, so its weights are judged by magnitude.

    Raises
    ------
    WeightError
        If the Hessian holds NaN or infinity.
    """
    if not bool(torch.isfinite(hessian).all()):
        raise WeightError("its inputs on the calibration data hold NaN or infinity; give batches that the model is made for")
    diagonal = hessian.diagonal()
    mean = float(diagonal.mean()) or 1.0
    while True:
        damped = hessian.clone()
        damped.diagonal().copy_(torch.where(diagonal == 0, mean, diagonal) + damping * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not failed:
            return upper
        if damping >= MOST_DAMPING:
            raise WeightError("the Hessian of its inputs cannot be factored; give other calibration data")
        damping *= 10
