"""Gradual pruning while a model is trained: the balance-aware iterative pruning of the paper (Yao et al., 2019, algorithm 1).

From step to step each block keeps less, down to its pattern; between, training makes up for what went.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.validation import check_count, check_names, require
from tvm_balanced.errors import InputError
from tvm_balanced.frontend.pruning.held_masks import HeldMasks
from tvm_balanced.frontend.pruning.masks import keep_mask
from tvm_balanced.frontend.pruning.prune import structures_of, weights_to_prune
from tvm_balanced.frontend.pruning.structures import Structure, Tiles, TwoLevel, Unstructured
from tvm_balanced.frontend.pruning.weights import PrunableWeight

# From how much of the way (0 to 1) to how much of the final sparsity; cubic is that of Zhu and Gupta (2017).
SCHEDULES: Mapping[str, Callable[[float], float]] = {"cubic": lambda way: 1 - (1 - way) ** 3, "linear": lambda way: way}
FORMAT = 1


class GradualPruning:
    """Prunes a model while an optimizer trains it, and holds what is pruned at zero after each of the optimizer's steps.

        pruning = tb.GradualPruning(model, optimizer, "4:16", steps=1000)
        ...  # the training loop, as it is
        torch.save({"pruning": pruning.state_dict(), ...}, "checkpoint.pt")

    It watches the optimizer's own steps, so gradient accumulation and steps that AMP skips need nothing. Under DDP every
    process finds the same masks, because all have the same weights.

    Parameters
    ----------
    model : torch.nn.Module
    optimizer : torch.optim.Optimizer
        Trains the model; `close` lets go of it.
    pattern : str, BalancedPattern or mapping of layer names to them
        As for `prune`.
    steps : int
        Steps of the optimizer from the first pruning to the pattern.
    warmup : int
        Steps before the first pruning.
    every : int
        Steps from one pruning to the next.
    schedule : str
        "cubic" prunes much at first, when there is much to spare; "linear" evenly.
    regrow : float
        Share of what a block keeps that is exchanged at each pruning, as RigL does: the smallest of what stays makes room for
        what has the largest gradient. It falls to 0 along a cosine. 0 exchanges nothing.
    include, exclude, embeddings
        As for `prune`.

    Raises
    ------
    TvmBalancedError
        As `prune`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        pattern: str | Structure | Mapping[str, Any],
        steps: int,
        warmup: int = 0,
        every: int = 10,
        schedule: str = "cubic",
        regrow: float = 0.0,
        include: str | Sequence[str] = ("*",),
        exclude: str | Sequence[str] = (),
        embeddings: bool = False,
    ) -> None:
        require("model", model, nn.Module, "a torch.nn.Module")
        require("optimizer", optimizer, torch.optim.Optimizer, "a torch.optim.Optimizer")
        check_count("steps", steps)
        check_count("every", every)
        check_count("warmup", warmup, least=0)
        if schedule not in SCHEDULES:
            raise InputError(f'schedule is "{schedule}"; give one of {", ".join(SCHEDULES)}')
        if not 0 <= regrow < 1:
            raise InputError(f"regrow is {regrow}; give a share from 0 to less than 1")
        self.step_count = 0
        self._steps, self._warmup, self._every, self._regrow = steps, warmup, every, regrow
        self._schedule = SCHEDULES[schedule]
        target = structures_of(pattern)
        names = (check_names("include", include), check_names("exclude", exclude))
        self._targets = weights_to_prune(model, target, *names, embeddings)
        self._masks = HeldMasks()
        self._handle = optimizer.register_step_post_hook(lambda *_: self.step())

    @property
    def is_done(self) -> bool:
        """Whether every weight has its pattern."""
        return self.step_count >= self._warmup + self._steps

    @property
    def sparsity(self) -> float:
        """Share of zeros that the masks hold now, over all weights to prune."""
        masks = [(self._masks.mask(weight), weight.parameter.numel()) for weight in self._targets]
        dropped = sum(int((~mask).sum()) for mask, _ in masks if mask is not None)
        return dropped / sum(size for _, size in masks)

    def step(self) -> None:
        """Count a step of the optimizer, prune if it is time to, and hold the masks; the optimizer calls it by itself."""
        self.step_count += 1
        since = self.step_count - self._warmup
        if 0 < since <= self._steps and (since % self._every == 0 or since == self._steps):
            self._prune(since / self._steps)
        self._masks.apply()

    def masks(self) -> dict[str, torch.Tensor]:
        """Return the mask of each weight by its name: bool, in the parameter's shape, True for what stays."""
        return self._masks.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold to go on: the number of steps and the masks."""
        return {"format": FORMAT, "steps": self.step_count, "masks": self._masks.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned; the model must have its weights already.

        Raises
        ------
        InputError
            If the state is another's.
        """
        if not isinstance(state, Mapping) or state.get("format") != FORMAT:
            raise InputError("the state is no state of a gradual pruning; give what state_dict returned")
        self._masks.load_state_dict(state["masks"], {weight.name: weight for weight in self._targets})
        self.step_count = int(state["steps"])
        self._masks.apply()

    def close(self) -> None:
        """Let go of the optimizer: its steps no longer prune, nor hold masks."""
        self._handle.remove()

    @torch.no_grad()
    def _prune(self, way: float) -> None:
        share = self._regrow * (1 + math.cos(math.pi * way)) / 2
        for weight, target in self._targets.items():
            now = _at(target, self._schedule(way))
            self._masks.set(weight, _exchange(weight, now, share) if share else keep_mask(weight.matrix(), now))


def _at(target: Structure, share: float) -> Structure:
    """Return the structure with `share` of the target's sparsity; of a block whole elements stay."""
    if isinstance(target, BalancedPattern):
        kept = target.block - math.floor((target.block - target.nnz) * share + 1e-9)
        return BalancedPattern(kept, target.block)
    if isinstance(target, TwoLevel):
        outer, inner = _at(target.outer, share), _at(target.inner, share)
        assert isinstance(outer, BalancedPattern)
        assert isinstance(inner, BalancedPattern)
        return TwoLevel(outer, inner)
    if isinstance(target, Tiles):
        return Tiles(target.rows, target.columns, target.sparsity * share)
    return Unstructured(target.sparsity * share)


def _exchange(weight: PrunableWeight, structure: Structure, share: float) -> torch.Tensor:
    """Return a mask in which `share` of what each block keeps are the largest gradients of the rest."""
    matrix, gradient = weight.matrix(), weight.parameter.grad
    if not isinstance(structure, BalancedPattern) or gradient is None:
        return keep_mask(matrix, structure)
    staying = structure.nnz - min(structure.nnz - 1, round(structure.nnz * share))
    stays = keep_mask(matrix, BalancedPattern(staying, structure.block))
    gradients = weight.view.stack(gradient).reshape(matrix.shape).float().abs()
    return keep_mask(gradients.nan_to_num().masked_fill(stays, math.inf), structure)
