import pytest
import torch
import tvm
from support.relax_modules import module
from torch import nn
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program
from tvm.script import ir as I
from tvm.script import relax as R

import tvm_balanced as tb
from tvm_balanced.runtime.host import host_target
from tvm_balanced.transform.workarounds.check_lookups import CheckLookups

INDEX = relax.const([1, 2, 3], "int32")


def test_fast_lookups_are_made_safe():
    before = module(lambda b, x: relax.op.take(x, INDEX, 0, mode="fast"), (5, 4))
    after = module(lambda b, x: relax.op.take(x, INDEX, 0, mode="nan"), (5, 4))
    tvm.ir.assert_structural_equal(CheckLookups()(before), after)


def test_other_modes_stay():
    before = module(lambda b, x: relax.op.take(x, INDEX, 0, mode="clip"), (5, 4))
    tvm.ir.assert_structural_equal(CheckLookups()(before), before)


@I.ir_module
class Lookup:
    @R.function
    def main(x: R.Tensor((4, 1), "float32"), i: R.Tensor((1,), "int64")) -> R.Tensor((1, 1), "float32"):
        with R.dataflow():
            y = R.take(x, i, axis=0)
            R.output(y)
        return y


def test_plain_tvm_reads_behind_the_table():
    """The memory there is ours, so that nothing is harmed."""
    memory = torch.arange(8.0)[:, None]
    vm = relax.VirtualMachine(tvm.compile(Lookup, host_target()), tvm.cpu())
    assert vm["main"](memory[:4], torch.tensor([5])).item() == 5, "TVM looks at the index by default: CheckLookups may go"


def test_plain_tvm_imports_embeddings_so():
    program = torch.export.export(nn.Embedding(4, 1), (torch.tensor([1]),))
    values = [binding.value for binding in from_exported_program(program)["main"].body.blocks[0].bindings]
    modes = [call.attrs.mode for call in values if isinstance(call, relax.Call) and call.op.name == "relax.take"]
    assert modes == ["fast"], "TVM imports embeddings in another mode: CheckLookups may go"


@pytest.mark.grid
@pytest.mark.parametrize("index", [100, -1000, 10**9])
def test_an_index_out_of_range_reads_nothing(index):
    torch.manual_seed(0)
    module = tb.compile(nn.Embedding(100, 8), (torch.zeros(2, 5, dtype=torch.int64),))
    ids = torch.full((2, 5), 7)
    ids[0, 0] = index
    got = module(ids)
    assert torch.isnan(got[0, 0]).all()
    assert torch.isfinite(got[1]).all()
