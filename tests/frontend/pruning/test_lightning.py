"""Needs Lightning, which `make test` does not install."""

import pytest
import torch
from torch import nn

lightning = pytest.importorskip("lightning.pytorch")


def fit(folder, callback, steps, resume=None):
    torch.manual_seed(0)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 8)

        def training_step(self, batch, _):
            return self.layer(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Module()
    data = torch.utils.data.DataLoader(torch.randn(64, 16), batch_size=8)
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[callback],
        default_root_dir=folder,
    )
    trainer.fit(module, data, ckpt_path=resume)
    trainer.save_checkpoint(folder / "last.ckpt")
    return module


@pytest.mark.slow
def test_a_fitted_module_has_the_pattern_and_a_resumed_run_the_same_masks(tmp_path):
    from tvm_balanced.frontend.pruning.lightning import GradualPruningCallback

    whole = GradualPruningCallback("2:8", steps=8, every=2)
    module = fit(tmp_path, whole, 16)
    assert ((module.layer.weight != 0).reshape(8, 2, 8).sum(2) == 2).all()
    fit(tmp_path, GradualPruningCallback("2:8", steps=8, every=2), 8)
    resumed = GradualPruningCallback("2:8", steps=8, every=2)
    fit(tmp_path, resumed, 16, resume=tmp_path / "last.ckpt")
    assert resumed.pruning.step_count == 16
    assert torch.equal(resumed.pruning.masks()["layer"], whole.pruning.masks()["layer"])
