"""Gradual pruning under Hugging Face's Trainer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from tvm_balanced.frontend.pruning.gradual import GradualPruning
from tvm_balanced.frontend.pruning.structures import Structure

FILE = "gradual_pruning.pt"  # in each checkpoint


class GradualPruningCallback(TrainerCallback):
    """Prunes the model that a Trainer trains; its checkpoints hold the masks, and a resumed run goes on with them.

    Parameters
    ----------
    pattern
        As for `GradualPruning`.
    steps : int, optional
        By default half of the steps of the training.
    options
        Other arguments of `GradualPruning`.
    """

    def __init__(self, pattern: str | Structure | Mapping[str, Any], steps: int | None = None, **options: Any) -> None:
        self._pattern, self._steps, self._options = pattern, steps, options
        self.pruning: GradualPruning | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Watch the optimizer; go on from the checkpoint if the training does."""
        optimizer = kwargs["optimizer"]
        optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
        steps = self._steps or max(1, state.max_steps // 2)
        self.pruning = GradualPruning(kwargs["model"], optimizer, self._pattern, steps, **self._options)
        saved = _checkpoint(args, state) / FILE
        if state.global_step and saved.is_file():
            self.pruning.load_state_dict(torch.load(saved, weights_only=True))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the masks into the checkpoint that was just written."""
        if self.pruning is not None and state.is_world_process_zero:
            torch.save(self.pruning.state_dict(), _checkpoint(args, state) / FILE)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let go of the optimizer."""
        if self.pruning is not None:
            self.pruning.close()


def _checkpoint(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
