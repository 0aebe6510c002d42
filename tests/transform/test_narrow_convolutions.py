import numpy as np
import pytest
import torch
import tvm
from torch import nn

from tvm_balanced.api import import_model
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.ops import is_call
from tvm_balanced.runtime.host import host_target
from tvm_balanced.transform.fold_batch_norm import FoldBatchNorm
from tvm_balanced.transform.narrow_convolutions import NarrowConvolutions

H200 = cuda_target("h200")


def imported(model, x):
    torch.manual_seed(0)
    return import_model(model.eval(), (x,)).mod


def calls(mod, *operators):
    """The calls of some operators, in the order that they are computed."""
    values = [binding.value for block in mod["main"].body.blocks for binding in block.bindings]
    return [value for value in values if is_call(value, *(f"relax.{name}" for name in operators))]


def dtypes(mod):
    """Of the results of convolutions and casts, by their operators."""
    found = calls(mod, "nn.conv1d", "nn.conv2d", "astype")
    return [(call.op.name.split(".")[-1], str(call.ty.dtype.dtype)) for call in found]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays(dtype, bias):
    mod = imported(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=bias).to(dtype), torch.zeros(2, 4, 7, 7, dtype=dtype))
    with H200:
        after = NarrowConvolutions()(mod)
    name = str(dtype).removeprefix("torch.")
    assert dtypes(after) == [("conv2d", name)]
    attrs = calls(after, "nn.conv2d")[0].attrs
    assert ([int(s) for s in attrs.strides], [int(p) for p in attrs.padding], int(attrs.groups)) == ([2, 2], [1] * 4, 2)


def test_a_normalisation_that_became_the_bias_too():
    mod = imported(nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)).half(), torch.zeros(2, 4, 9).half())
    with H200:
        after = NarrowConvolutions()(FoldBatchNorm()(mod))
    assert dtypes(after) == [("conv1d", "float16")]


def test_float32_and_cpus_and_what_others_read_stay_as_they_are():
    half = imported(nn.Conv2d(4, 6, 3).half(), torch.zeros(2, 4, 7, 7).half())
    single = imported(nn.Conv2d(4, 6, 3), torch.zeros(2, 4, 7, 7))
    with host_target():
        assert NarrowConvolutions()(half).same_as(half)
    assert NarrowConvolutions()(half).same_as(half), "without a target"
    with H200:
        tvm.ir.assert_structural_equal(NarrowConvolutions()(single), single)

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 6, 3, bias=False)

        def forward(self, x):
            wide = torch.nn.functional.conv2d(x.float(), self.conv.weight.float())
            return wide.half(), wide

    with H200:
        mod = imported(Both().half(), torch.zeros(2, 4, 7, 7).half())
        assert ("conv2d", "float32") in dtypes(NarrowConvolutions()(mod))


def test_the_bias_is_the_same_number():
    model = nn.Conv2d(4, 6, 3).half()
    mod = imported(model, torch.zeros(2, 4, 7, 7).half())
    with H200:
        after = NarrowConvolutions()(mod)
    (add,) = calls(after, "add")
    bias = add.args[1].value.numpy()
    assert bias.dtype == np.float16
    np.testing.assert_array_equal(bias.reshape(-1), model.bias.detach().numpy())
