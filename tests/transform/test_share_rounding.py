"""Rows of x are rounded once for the layers that read them, with the same bits as in each layer by itself."""

import numpy as np
import pytest
import torch
import tvm
from support import eight_bits, reference
from torch import nn
from tvm import relax

from tvm_balanced.api import import_model
from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target, runs_here
from tvm_balanced.runtime.threads import run_with_threads
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.transform.pipeline import lower
from tvm_balanced.transform.share_rounding import NAME

HERE = KERNELS["cpu_avx512_i8"].refuses(host_target(), 64, 64, "float32") is None
NEEDS = pytest.mark.skipif(not HERE, reason="this CPU has no AVX-512 VBMI and VNNI")
PATTERNS = ("2:16", "4:16", "8:16")


class Fan(nn.Module):
    """Layers that read one x (..., K), of other sparsity and size, and one that reads another."""

    def __init__(self, rng, k=96):
        super().__init__()
        weights = [reference.balanced(n, k, BalancedPattern.parse(p), rng) for n, p in zip((40, 64, 33), PATTERNS, strict=True)]
        self.layers = nn.ModuleList(nn.Linear(k, len(weight), bias=False) for weight in weights)
        self.dense, self.other = nn.Linear(k, 24, bias=False), nn.Linear(k, 16, bias=False)
        for layer, weight in zip(self.layers, weights, strict=True):
            layer.weight = nn.Parameter(torch.from_numpy(weight))

    def forward(self, x):
        return (*(layer(x) for layer in self.layers), self.dense(x), self.other(x * 2))


KERNEL = {"layers.*": "cpu_avx512_i8", "dense": "cpu_dense_i8", "other": "cpu_dense_i8"}


def compiled(model, x, kernels=None, target=None, dynamic=None):
    imported, target = import_model(model.eval(), (x,), dynamic_shapes=dynamic), target or host_target()
    selector = KernelSelector.of(target, 2, kernels or KERNEL)
    found = lower(imported.mod, target, selector, imported.weight_names, imported.ranges, lift=False)
    return found, relax.VirtualMachine(build(found.mod, target, relax_pipeline=None), tvm.cpu())["main"]


def called(main, x, threads=1):
    return [tensor.numpy() for tensor in run_with_threads(threads, main, tvm.runtime.tensor(x))]


def roundings(found):
    return [name for var, _ in found.mod.functions_items() if (name := str(var.name_hint)).startswith(NAME)]


def weights(model):
    return [layer.weight.detach().numpy() for layer in (*model.layers, model.dense)]


@pytest.fixture(scope="module")
def fan():
    rng = np.random.default_rng(7)
    model = Fan(rng)
    return model, *compiled(model, torch.zeros(9, 96))


@NEEDS
@pytest.mark.slow
def test_sums_are_those_of_integers_bit_for_bit(fan, rng):
    model, found, main = fan
    assert len(roundings(found)) == 1
    x = eight_bits.on_steps(9, 96, rng)
    for got, weight in zip(called(main, x), weights(model), strict=False):
        np.testing.assert_array_equal(got, eight_bits.dense(x, weight))


@NEEDS
@pytest.mark.slow
def test_the_bits_are_those_of_layers_by_themselves_with_any_number_of_threads(fan, rng):
    model, _, main = fan
    x = (rng.standard_normal((9, 96)) * np.exp(rng.standard_normal((9, 1)))).astype(np.float32)
    x[4, 3] = np.nan
    shared = called(main, x)
    for layer, weight, got in zip((*model.layers, model.dense), weights(model), shared, strict=False):
        name = "cpu_dense_i8" if layer is model.dense else "cpu_avx512_i8"
        pattern = BalancedPattern.parse(dict(zip(map(id, model.layers), PATTERNS, strict=True)).get(id(layer), "1:1"))
        np.testing.assert_array_equal(reference.compile_kernel(name, weight, pattern, m=9)(x), got)
    for one, two in zip(shared, called(main, x, threads=2), strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.isnan(shared[0][4]).all()
    assert np.isfinite(shared[0][5]).all()


@NEEDS
@pytest.mark.slow
def test_any_number_of_rows(fan, rng):
    model, _, _ = fan
    found, main = compiled(model, torch.zeros(2, 5, 96), dynamic={"x": {1: torch.export.Dim("tokens", min=2, max=64)}})
    assert len(roundings(found)) == 1
    for tokens in (2, 7, 33):
        x = eight_bits.on_steps(2 * tokens, 96, rng)
        got = called(main, x.reshape(2, tokens, 96))
        for y, weight in zip(got, weights(model), strict=False):
            np.testing.assert_array_equal(y.reshape(2 * tokens, -1), eight_bits.dense(x, weight))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu/x86-64-v3", "cpu/x86-64-v2"])
def test_other_instruction_sets_round_alike(fan, name, rng):
    model, target = fan[0], parse_target(name)
    if not runs_here(target):
        pytest.skip(f"this CPU does not run {name}")
    kernels = {"layers.*": "cpu_avx2_i8" if name.endswith("v3") else "cpu_portable_i8", "dense": "none", "other": "none"}
    found, main = compiled(model, torch.zeros(9, 96), kernels, target)
    assert roundings(found)
    x = eight_bits.on_steps(9, 96, rng)
    for got, weight in zip(called(main, x)[:3], weights(model), strict=False):
        np.testing.assert_array_equal(got, eight_bits.dense(x, weight))


@NEEDS
def test_one_reader_rounds_for_itself():
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    found, _ = compiled(model, torch.zeros(3, 64), {"*": "cpu_dense_i8"})
    assert roundings(found) == []


def test_a_kernel_that_does_not_round_is_not_given_rounded_rows():
    with pytest.raises(ValueError, match="does not begin with the rounding"):
        KERNELS["cpu_dense"].prim_func(Workload("cpu_dense", 4, 16, 32, 1, 1, rounded=True))
