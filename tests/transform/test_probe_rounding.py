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
from tvm_balanced.transform.probe_rounding import ProbeRounding, _rounded_weight


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


def flagged(model, x):
    """A probe of layers whose only parameter is a flag: (its layers, a function from flags to its first output)."""
    imported = import_model(model, (torch.as_tensor(x),))
    probing = ProbeRounding(imported.weight_names, set(imported.weight_names.values()))
    lowered = lower(probing(imported.mod), host_target(), names=dict(imported.weight_names))
    machine = tvm.relax.VirtualMachine(build(lowered.mod, host_target(), relax_pipeline=None), tvm.cpu())
    lifted = [weight.tensor for weight in lowered.weights]

    def run(*given):
        arrays = [x, *(np.array(array, np.float32) for array in given)]
        result = machine["main"](*map(tvm.runtime.tensor, arrays), *lifted)
        while not isinstance(result, tvm.runtime.Tensor):
            result = result[0]
        return result.numpy()

    return probing.functions["main"].layers, run


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_rounds_images_by_group_and_rows_of_its_weight(groups, rng):
    conv = nn.Conv2d(16, 8, 3, padding=1, groups=groups, bias=False)
    x = eight_bits.on_steps(2 * groups, 16 // groups * 25, rng).reshape(2, 16, 5, 5)
    layers, run = flagged(conv, x)
    assert layers == ["weight"]
    weight = conv.weight.detach().numpy()
    images, step, zero = eight_bits.rounded_rows(x.reshape(2 * groups, -1))
    values, scales = eight_bits.rounded_weight(weight.reshape(8, -1))
    exact, rounded = ((images - zero) * step).reshape(x.shape), (values * scales[:, None]).reshape(weight.shape)
    want = torch.nn.functional.conv2d(
        torch.as_tensor(exact).double(), torch.as_tensor(rounded).double(), padding=1, groups=groups
    )
    np.testing.assert_allclose(run(1), want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))
    np.testing.assert_allclose(run(0), conv(torch.as_tensor(x)).detach(), rtol=1e-4, atol=1e-5 * float(want.abs().max()))
    assert np.abs(run(1) - run(0)).max() > 1e-4 * float(want.abs().max())


@pytest.mark.slow
def test_the_state_of_a_recurrent_layer_rounds_in_every_step(rng):
    layer = nn.RNN(16, 24, batch_first=True, bias=False)
    x = rng.standard_normal((2, 5, 16)).astype(np.float32)
    layers, run = flagged(layer, x)
    assert layers == ["weight_ih_l0", "weight_hh_l0"]
    by_input, by_state = (weight.detach().numpy() for weight in (layer.weight_ih_l0, layer.weight_hh_l0))
    values, scales = eight_bits.rounded_weight(by_state)
    h, want = np.zeros((2, 24)), []
    for t in range(5):
        state, step, zero = eight_bits.rounded_rows(h.astype(np.float32))
        h = np.tanh(x[:, t].astype(np.float64) @ by_input.T + ((state - zero) * step) @ (values * scales[:, None]).T)
        want.append(h)
    plain = 0, np.ones(16), by_input.T
    np.testing.assert_allclose(run(*plain, 1), np.stack(want, 1), atol=2e-3)
    np.testing.assert_allclose(run(*plain, 0), layer(torch.as_tensor(x))[0].detach(), atol=1e-5)
    assert np.abs(run(*plain, 1) - run(*plain, 0)).max() > 1e-4


def test_rows_of_the_weight_of_a_transposed_convolution_in_groups(rng):
    weight = rng.standard_normal((6, 4, 3)).astype(np.float32)  # of two groups, each from 3 channels to 4
    found = _rounded_weight(weight, 2)
    rows = np.stack([weight[3 * group : 3 * group + 3, row].ravel() for group in range(2) for row in range(4)])
    values, scales = eight_bits.rounded_weight(rows)
    want = (values * scales[:, None]).reshape(2, 4, 3, 3).swapaxes(1, 2).reshape(weight.shape)
    np.testing.assert_allclose(found, want, rtol=1e-6)
