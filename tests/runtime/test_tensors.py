import gc

import ml_dtypes
import numpy as np
import pytest
import torch
import tvm
from support.fake_gpu import FakeTensor
from torch import nn

import tvm_balanced as tb
from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.errors import InputError
from tvm_balanced.runtime import tensors
from tvm_balanced.runtime.tensors import empty_results, to_tvm

X = TensorSpec("x", ("m", 4), "float32")


class TvmTensor(FakeTensor):
    """A TVM tensor made of any tensor; the test chooses device, contiguity and address."""

    def __init__(self, tensor, device, contiguous=True, address=64):
        super().__init__(tensor)
        self.device, self.contiguous, self.address = device, contiguous, address

    def is_contiguous(self):
        return self.contiguous

    def data_ptr(self):
        return self.address


@pytest.mark.parametrize(
    ("module", "given", "message"),
    [
        (tvm.cpu(), {"device": tvm.cuda(0)}, "is on cuda:0; this module runs on cpu:0: copy it there"),
        (tvm.cuda(0), {"device": tvm.cpu()}, "is on cpu:0; this module runs on cuda:0: copy it there"),
        (tvm.cpu(), {"device": tvm.cpu(), "contiguous": False}, "not contiguous"),
        (tvm.cpu(), {"device": tvm.cpu(), "address": 100}, "multiple of 64 bytes"),
        (tvm.cpu(), {"device": tvm.cpu()}, None),
        (tvm.cuda(0), {"device": tvm.cuda(0)}, None),
    ],
)
def test_tensors_of_tvm_must_be_there_contiguous_and_aligned(monkeypatch, module, given, message):
    value = TvmTensor(tvm.runtime.tensor(np.zeros((3, 4), np.float32)), **given)
    monkeypatch.setattr(tensors.tvm.runtime, "Tensor", TvmTensor)
    if message is None:
        assert to_tvm([X], [value], {}, module) == [value]
        return
    with pytest.raises(InputError, match=message) as error:
        to_tvm([X], [value], {}, module)
    assert "\n" not in str(error.value)


def test_a_tensor_of_tvm_is_taken_as_it_is(mlp, compiled_mlp):
    model, (x,) = mlp
    y = compiled_mlp(tvm.runtime.tensor(x.numpy()))
    np.testing.assert_allclose(y, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_rows_give_no_rows_and_run_nothing(monkeypatch, dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 40)).to(dtype).eval()
    tb.prune(model, "2:16")
    module = tb.compile(model, (torch.randn(5, 64, dtype=dtype),), dynamic_shapes=({0: torch.export.Dim("m")},))
    module.compiled["main"] = lambda *_: pytest.fail("it ran")
    x = torch.zeros(0, 64, dtype=dtype)
    want, got = model(x), module(x)
    assert (got.shape, got.dtype, got.device) == (want.shape, want.dtype, want.device)
    if dtype == torch.float32:
        kept = []  # so that every copy has another address: the address of an empty array must not matter
        for size in range(1, 200):
            kept.append(np.empty(size, np.uint8))
            array = module(x.numpy())
            assert (array.shape, array.dtype) == ((0, 40), np.float32)
    with pytest.raises(InputError, match="shape"):
        module(torch.zeros(0, 63, dtype=dtype))


def test_results_that_are_not_empty_are_computed():
    class Append(nn.Module):
        def forward(self, held, x):
            return torch.cat([held, x])

    held = {0: torch.export.Dim("m")}
    module = tb.compile(Append(), (torch.ones(3, 4), torch.ones(2, 4)), dynamic_shapes=(held, None))
    assert torch.equal(module(torch.ones(0, 4), torch.full((2, 4), 7.0)), torch.full((2, 4), 7.0))
    y = TensorSpec("y", ("m", 2), "float32")
    assert empty_results([X], [y], [np.zeros((3, 4))]) is None
    assert empty_results([X], [y, TensorSpec("z", (4,), "float32")], [np.zeros((0, 4))]) is None
    assert empty_results([X], [TensorSpec("y", ("2*m",), "float32")], [np.zeros((0, 4))]) is None


def test_an_array_in_bfloat16_shares_its_memory_and_keeps_it():
    array = tensors.empty_aligned((3, 5), np.dtype(ml_dtypes.bfloat16))
    array[...] = 2
    tensor = tensors.as_tvm(array)
    assert (str(tensor.dtype), tensors.address_of(tensor)) == ("bfloat16", array.ctypes.data)
    array[1, 2] = 7
    assert tensors.view(tensor)[1, 2] == 7
    del array
    gc.collect()
    others = [np.full((3, 5), 9, np.float32) for _ in range(50)]
    assert tensors.view(tensor).astype(np.float32).sum() == 14 * 2 + 7
    assert len(others) == 50
