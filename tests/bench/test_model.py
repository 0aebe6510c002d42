import copy

import pytest
import torch
from torch import nn

from tvm_balanced.bench.model import ModelBenchmark


class Compiled:
    """Stands in for a CompiledModule."""

    def __init__(self, module):
        self.module, self.threads = module, 0

    def __call__(self, x):
        return self.module(x)


def test_rivals_that_round_are_timed_and_only_the_others_compared():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
    another = copy.deepcopy(module)
    nn.init.ones_(another[0].weight)
    bench = {"module": module, "args": (torch.randn(4, 16),), "threads": 1, "torch_compile": False, "rounds": 3}
    compiled = Compiled(module)
    rows = ModelBenchmark(**bench, rounded={"in 8 bits": another}).run(compiled)
    assert [row.name for row in rows] == ["balanced", "eager", "onednn packed linears", "in 8 bits"]
    assert compiled.threads == 1
    with pytest.raises(AssertionError, match="in 8 bits is wrong"):
        ModelBenchmark(**bench, others={"in 8 bits": another}).run(compiled)
