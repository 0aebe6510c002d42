import numpy as np
import pytest
import torch
import tvm
from support import eight_bits
from torch import nn

from tvm_balanced.api import import_model
from tvm_balanced.compiler.build import build
from tvm_balanced.runtime.host import host_target
from tvm_balanced.transform.pipeline import lower
from tvm_balanced.transform.probe_rounding import ProbeRounding


@pytest.fixture(scope="module")
def probed():
    """A layer's probe, and what it runs as."""
    imported = import_model(nn.Linear(64, 40, bias=False), (torch.randn(3, 64),))
    names = set(imported.weight_names.values())
    probing = ProbeRounding(imported.weight_names, names)
    mod = probing(imported.mod)
    executable = build(lower(mod, host_target()).mod, host_target(), relax_pipeline=None)
    return probing, tvm.relax.VirtualMachine(executable, tvm.cpu())["main"]


def called(run, x, flag, factor, weight):
    arrays = (x, np.float32(flag), factor, np.ascontiguousarray(weight.T))
    y, peak = run(*(tvm.runtime.tensor(np.array(array, np.float32)) for array in arrays))
    return y.numpy(), peak.numpy()


def test_rounds_as_the_kernels_do(probed, rng):
    probing, run = probed
    (layer,) = probing.functions["main"].layers
    assert probing.weights[layer].shape == (40, 64)
    x, weight, ones = eight_bits.on_steps(3, 64, rng), rng.standard_normal((40, 64)).astype(np.float32), np.ones(64)
    numbers, scales = eight_bits.rounded_weight(weight)
    y, peak = called(run, x, 1, ones, numbers * scales[:, None])
    np.testing.assert_allclose(y, eight_bits.dense(x, weight), rtol=1e-4, atol=1e-4 * np.abs(y).max())
    np.testing.assert_array_equal(peak, np.abs(x).max(axis=0))
    x = rng.standard_normal((3, 64)).astype(np.float32)
    (rows, step, zero), identity = eight_bits.rounded_rows(x), np.eye(40, 64)
    np.testing.assert_allclose(called(run, x, 1, ones, identity)[0], ((rows - zero) * step)[:, :40], rtol=1e-6)


def test_rounds_nothing_unless_asked(probed, rng):
    x, factor = rng.standard_normal((3, 64)).astype(np.float32), np.exp2(rng.integers(-3, 3, 64))
    np.testing.assert_array_equal(called(probed[1], x, 0, factor, np.eye(40, 64))[0], (x * factor).astype(np.float32)[:, :40])


def test_a_recurrent_layer_keeps_its_steps_in_float32():
    imported = import_model(nn.LSTM(16, 24, batch_first=True), (torch.randn(2, 5, 16),))
    probing = ProbeRounding(imported.weight_names, set(imported.weight_names.values()))
    probing(imported.mod)
    assert probing.functions["main"].layers == ["weight_ih_l0"]
