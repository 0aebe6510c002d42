import ctypes

import numpy as np
import torch

from tvm_balanced.runtime.cuda.borrowed_tensor import Borrowed


def test_a_borrowed_tensor_is_the_same_memory(rng):
    array = rng.standard_normal((4, 6)).astype(np.float32)
    borrowed = Borrowed(torch.utils.dlpack.from_dlpack, "llvm")
    tensor = borrowed(ctypes.c_void_p(array.ctypes.data), "float32", (4, 3), (6, 2))
    tensor[1, 2] = 5
    assert array[1, 4] == 5
    np.testing.assert_array_equal(tensor.numpy(), array[:, ::2])
