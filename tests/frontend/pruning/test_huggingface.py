"""Needs accelerate, which transformers' Trainer is built on; `make test` does not install it."""

import pytest
import torch
from torch import nn

pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 8)

    def forward(self, x, labels):
        y = self.layer(x)
        return {"loss": (y - labels).square().mean(), "logits": y}


def train(folder, callback, resume=None, stop_after=None, accumulate=1):
    torch.manual_seed(0)
    data = [{"x": torch.randn(16), "labels": torch.randn(8)} for _ in range(64)]

    class Stop(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop |= state.global_step == stop_after

    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=12,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=accumulate,
        save_steps=4,
        report_to=[],
        learning_rate=0.01,
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
    )
    trainer = transformers.Trainer(Model(), arguments, train_dataset=data, callbacks=[callback, Stop()])
    trainer.train(resume_from_checkpoint=resume)
    return trainer.model


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_trained_model_has_the_pattern_and_a_resumed_run_the_same_masks(tmp_path, accumulate):
    from tvm_balanced.frontend.pruning.huggingface import GradualPruningCallback

    whole = GradualPruningCallback("2:8", steps=8, every=2)
    model = train(tmp_path / "whole", whole, accumulate=accumulate)
    assert whole.pruning.step_count == 12
    assert ((model.layer.weight != 0).reshape(8, 2, 8).sum(2) == 2).all()
    train(tmp_path / "parts", GradualPruningCallback("2:8", steps=8, every=2), stop_after=4, accumulate=accumulate)
    resumed = GradualPruningCallback("2:8", steps=8, every=2)
    train(tmp_path / "parts", resumed, resume=True, accumulate=accumulate)
    assert resumed.pruning.step_count == 12
    assert torch.equal(resumed.pruning.masks()["layer"], whole.pruning.masks()["layer"])
