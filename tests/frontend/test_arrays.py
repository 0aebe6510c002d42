import pytest
import torch

from tvm_balanced.frontend.arrays import to_numpy, to_torch


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_arrays_and_tensors_convert_exactly(dtype):
    tensor = torch.tensor([[0.5, 1.0, 3.0]]).to(dtype)
    assert torch.equal(to_torch(to_numpy(tensor)), tensor)
