import numpy as np
import pytest
import torch
import transformers

from benchmarks import large_checkpoint as benchmark


def test_a_checkpoint_is_sharded_pruned_and_one_that_transformers_reads(tmp_path):
    benchmark.write(tmp_path / "lm", layers=1, hidden=64)
    assert len(list((tmp_path / "lm").glob("*.safetensors"))) == benchmark.SHARDS
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    weight = model.model.layers[0].mlp.up_proj.weight
    assert (model.dtype, weight.dtype) == (torch.bfloat16, torch.bfloat16)
    assert set((weight.reshape(-1, 16) != 0).sum(1).tolist()) == {benchmark.KEPT}
    assert float(weight.detach().float().square().sum(1).mean()) == pytest.approx(
        1, rel=0.2
    )  # as much leaves a layer as enters it


def test_texts_and_logits_are_compared():
    eager = np.array([[0.0, 2.0, 1.0], [3.0, 0.0, 2.9]], np.float32)
    ours = eager + np.array([[0.0, 0.1, 0.0], [0.0, 0.0, 0.2]], np.float32)
    found = benchmark.compared(([1, 2], [1, 0]), (ours, eager))
    assert (found["same_text"], found["same_tokens"]) == (1, 1)
    assert (found["difference"], found["gap"]) == (pytest.approx(0.2), pytest.approx(0.1))
    assert benchmark.compared(([1, 0], [1, 0]), (eager, eager)) == {
        "same_text": 2,
        "same_tokens": 2,
        "difference": 0.0,
        "gap": 0.0,
    }
