import numpy as np
import pytest
import torch
from transformers.generation import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from tvm_balanced.errors import InputError
from tvm_balanced.runtime.sampling import Sampling


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(1.0, None, 1.0), (0.5, 5, 1.0), (2.0, None, 0.7), (0.8, 10, 0.5)])
def test_probabilities_are_those_of_transformers(rng, temperature, top_k, top_p):
    logits = rng.standard_normal((3, 40), np.float32) * 3
    warpers = [TemperatureLogitsWarper(temperature)] + ([TopKLogitsWarper(top_k)] if top_k else []) + [TopPLogitsWarper(top_p)]
    want = torch.softmax(LogitsProcessorList(warpers)(None, torch.from_numpy(logits)).double(), -1)
    np.testing.assert_allclose(Sampling(temperature, top_k, top_p).probabilities(logits), want, atol=1e-6)


def test_draws_follow_the_probabilities_and_the_seed():
    logits = np.log(np.array([[0.5, 0.3, 0.2, 1e-9]], np.float32))
    sampling = Sampling(seed=1)
    drawn = np.array([sampling.choose(logits)[0] for _ in range(4000)])
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 4000, [0.5, 0.3, 0.2, 0], atol=0.03)
    again = Sampling(seed=1)
    assert [again.choose(logits)[0] for _ in range(20)] == list(drawn[:20])
    assert Sampling(top_k=1).choose(logits) == 0


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"temperature": -1.0}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": 0}])
def test_numbers_out_of_range_get_one_sentence(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Sampling(**wrong)
