"""Gradual pruning under Lightning."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback

from tvm_balanced.frontend.pruning.gradual import GradualPruning
from tvm_balanced.frontend.pruning.structures import Structure


class GradualPruningCallback(Callback):
    """Prunes the module that a Trainer fits, by its first optimizer; its checkpoints hold the masks.

    Parameters
    ----------
    pattern, steps, options
        Arguments of `GradualPruning`.
    """

    def __init__(self, pattern: str | Structure | Mapping[str, Any], steps: int, **options: Any) -> None:
        self._arguments = (pattern, steps)
        self._options = options
        self._saved: dict[str, Any] | None = None
        self.pruning: GradualPruning | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Watch the optimizer; go on from the checkpoint if the training does."""
        self.pruning = GradualPruning(pl_module, trainer.optimizers[0], *self._arguments, **self._options)
        if self._saved is not None:
            self.pruning.load_state_dict(self._saved)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Let go of the optimizer."""
        if self.pruning is not None:
            self.pruning.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the masks, for a checkpoint."""
        return self.pruning.state_dict() if self.pruning is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the masks of a checkpoint until the training starts."""
        self._saved = state_dict or None
