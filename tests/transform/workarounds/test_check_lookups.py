import pytest
import torch
import tvm
from support.relax_modules import module
from torch import nn
from tvm import relax

import tvm_balanced as tb
from tvm_balanced.transform.workarounds.check_lookups import CheckLookups

INDEX = relax.const([1, 2, 3], "int32")


def test_fast_lookups_are_made_safe():
    before = module(lambda b, x: relax.op.take(x, INDEX, 0, mode="fast"), (5, 4))
    after = module(lambda b, x: relax.op.take(x, INDEX, 0, mode="nan"), (5, 4))
    tvm.ir.assert_structural_equal(CheckLookups()(before), after)


def test_other_modes_stay():
    before = module(lambda b, x: relax.op.take(x, INDEX, 0, mode="clip"), (5, 4))
    tvm.ir.assert_structural_equal(CheckLookups()(before), before)


@pytest.mark.parametrize("index", [100, -1000, 10**9])
def test_an_index_out_of_range_reads_nothing(index):
    torch.manual_seed(0)
    module = tb.compile(nn.Embedding(100, 8), (torch.zeros(2, 5, dtype=torch.int64),))
    ids = torch.full((2, 5), 7)
    ids[0, 0] = index
    got = module(ids)
    assert torch.isnan(got[0, 0]).all()
    assert torch.isfinite(got[1]).all()
