"""On the CPU, where torch computes the same: only the device of the tensors differs."""

import ctypes

import numpy as np
import pytest
import torch
from support import reference

from tvm_balanced.runtime.cuda import torch_dense, torch_library

M, N, K, STRIDE = 3, 5, 7, 11


def address(array):
    return ctypes.c_void_p(array.ctypes.data)


def call(operands, activation="none", residual=None, dtype="float32"):
    x, weight, bias = operands
    y = np.full((len(x), N), np.nan, x.dtype)
    given = [address(a) for a in (y, x, weight, bias)]
    added = None if residual is None else address(residual)
    done = torch_dense.dense("llvm", dtype, activation, len(x), N, K, STRIDE, *given, added)
    return done, y


@pytest.fixture
def operands(rng):
    weight = np.full((N, STRIDE), np.nan, np.float32)  # what is past K is not looked at
    weight[:, :K] = rng.standard_normal((N, K))
    return rng.standard_normal((M, K)).astype(np.float32), weight, rng.standard_normal(N).astype(np.float32)


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("activation", ["none", "relu", "gelu", "gelu_tanh", "silu"])
def test_against_float64(activation, with_residual, operands, rng):
    residual = rng.standard_normal((M, N)).astype(np.float32) if with_residual else None
    done, y = call(operands, activation, residual)
    x, weight, bias = operands
    assert done == 1
    assert reference.relative_error(y, reference.dense(x, weight[:, :K], bias, activation, residual)) < 1e-6


def test_bfloat16_is_known_by_its_bits(operands):
    halves = [torch.from_numpy(array).to(torch.bfloat16).view(torch.int16).numpy() for array in operands]
    done, y = call(halves, dtype="bfloat16")
    x, weight, bias = (torch.from_numpy(array).to(torch.bfloat16).double().numpy() for array in operands)
    assert done == 1
    got = torch.from_numpy(y.view(np.int16)).view(torch.bfloat16).double().numpy()
    assert reference.relative_error(got, x @ weight[:, :K].T + bias) < 1e-2


def test_nothing_is_done_where_it_is_turned_off(operands, monkeypatch):
    monkeypatch.setenv(torch_dense.SWITCH, torch_library.OWN)
    done, y = call(operands)
    assert done == 0
    assert np.isnan(y).all()
