import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.compiler import rounding_probe
from tvm_balanced.compiler.precision import _seconds
from tvm_balanced.errors import InputError, ToleranceError
from tvm_balanced.runtime.host import host_features, host_target
from tvm_balanced.runtime.manifest import read_manifest, write_manifest
from tvm_balanced.schedules.kernels.cpu_avx512_i8 import FEATURES, CpuAvx512I8
from tvm_balanced.schedules.tir.bf16_pairs import FEATURE
from tvm_balanced.selection.kernel_choice import KernelSelector

pytestmark = pytest.mark.skipif(not set(FEATURES) <= host_features(), reason="this CPU has no AVX-512 VBMI and VNNI")
BFLOAT16 = pytest.mark.skipif(FEATURE not in host_features(), reason="this CPU has no AVX-512 BF16")
ROUNDS = ("cpu_avx512_i8", "cpu_dense_i8")


@pytest.fixture(scope="module")
def net():
    """A pruned module, whose middle layer gets a column of x that is far larger than the others, and data."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 40)).eval()
    with torch.no_grad():
        model[0].weight[3] *= 300
        model[0].bias[3] = 2000
        model[2].weight[:, 3] /= 300
    tb.prune(model, "4:16")
    return model, [torch.randn(16, 64) for _ in range(3)]


def lost(module, model, batches):
    """The relative L2 of a module on data, by torch alone."""
    with torch.no_grad():
        want, got = (torch.cat([f(x) for x in batches]).double() for f in (model, module))
    return float((got - want).norm() / want.norm())


def kernels(module):
    return {layer.layer: layer.kernel for layer in module.report.layers}


@pytest.fixture(scope="module")
def rounded(net):
    model, batches = net
    return tb.compile(model, (batches[0],), precision="int8", calibration=batches, max_loss=0.05)


def test_the_loss_is_measured_on_the_data(net, rounded):
    said = rounded.report.precision
    assert set(kernels(rounded).values()) <= set(ROUNDS)
    assert (said.precision, said.simulated, said.data) == ("int8", False, "3 calls of the calibration data")
    assert said.loss == pytest.approx(lost(rounded, *net), rel=1e-6)
    assert 1e-4 < said.loss <= 0.05
    assert said.losses[0].cosine > 0.99
    assert said.losses[0].top1 > 0.9
    assert said.everything[0].relative_l2 > 0.3  # without smoothing of that column
    assert "3 layers in int8" in rounded.report.title


def test_report_and_manifest_hold_the_loss(rounded, tmp_path):
    rounded.save(tmp_path / "net.tb")
    manifest = read_manifest(tmp_path / "net.tb")
    assert manifest["report"]["precision"]["loss"] == rounded.report.precision.loss
    assert tb.load(tmp_path / "net.tb").report == rounded.report
    assert all(layer.bits > 2 for layer in rounded.report.layers)
    assert "bits for each weight of the model" in rounded.report.title
    del manifest["report"]["precision"]["attention"]  # as earlier versions wrote it
    write_manifest(tmp_path / "net.tb", manifest)
    assert tb.load(tmp_path / "net.tb").report.precision.attention == "float32"
    manifest["report"]["precision"]["losses"] = [{"output": "y"}]
    write_manifest(tmp_path / "net.tb", manifest)
    with pytest.raises(tb.TvmBalancedError, match="the loss of an output"):
        tb.load(tmp_path / "net.tb")


@pytest.mark.slow
def test_layers_that_lose_most_stay_in_float32(net):
    model, batches = net
    found = [tb.compile(model, (batches[0],), precision="int8", calibration=batches, max_loss=most) for most in (0.004, 0.003)]
    for most, module in zip((0.004, 0.003), found, strict=True):
        said = module.report.precision
        assert said.loss == pytest.approx(lost(module, *net), rel=1e-6)
        assert said.loss <= most
        assert set(said.rounded) | set(said.kept) == {"0", "2", "4"}
        assert {layer for layer, kernel in kernels(module).items() if kernel in ROUNDS} == set(said.rounded)
        assert list(said.kept.values()) == sorted(said.kept.values(), reverse=True)
    assert len(found[0].report.precision.rounded) > len(found[1].report.precision.rounded) > 0


def test_a_budget_that_cannot_be_kept_names_the_layers(net):
    model, batches = net
    with pytest.raises(ToleranceError, match=r"int8 loses .* 1e-06 is allowed, and not one layer .* most is lost by \d \("):
        tb.compile(model, (batches[0],), precision="int8", max_loss=1e-6)


@pytest.mark.slow
def test_auto_refuses_nothing(net):
    model, batches = net
    module = tb.compile(model, (batches[0],), precision="auto", max_loss=1e-6)
    assert not set(kernels(module).values()) & set(ROUNDS)
    assert module.report.precision.precision == "float32"
    assert lost(module, *net) < 1e-6


@pytest.mark.slow
def test_auto_takes_the_fastest(net):
    model, batches = net
    module = tb.compile(model, (batches[0],), precision="auto", max_loss=0.05)
    assert set(kernels(module).values()) <= set(ROUNDS)


@pytest.mark.slow
def test_the_callers_metric_is_the_budget(net):
    model, batches = net
    calls = []

    def metric(expected, actual):
        calls.append((len(expected), len(actual)))
        return float(np.mean([np.abs(a["output_0"] - b["output_0"]).max() for a, b in zip(expected, actual, strict=True)]))

    module = tb.compile(model, (batches[0],), precision="int8", calibration=batches, max_loss=100, metric=metric)
    assert calls == [(3, 3)] * 2  # the probe, and the module
    with torch.no_grad():
        off = [float((model(x) - module(x)).abs().max()) for x in batches]
    assert module.report.precision.loss == pytest.approx(np.mean(off), rel=1e-4)
    with pytest.raises(ToleranceError, match="not one layer"):
        tb.compile(model, (batches[0],), precision="int8", calibration=batches, metric=lambda expected, actual: 1.0)


@pytest.mark.slow
def test_a_kernel_that_loses_more_than_was_expected_is_refused(net, monkeypatch):
    model, batches = net
    good = CpuAvx512I8.pack

    def broken(self, weight):
        values, indices, scales, totals = good(self, weight)
        return values, indices, scales * np.float32(1.2), totals

    monkeypatch.setattr(CpuAvx512I8, "pack", broken)
    with pytest.raises(ToleranceError, match=r"the model loses 0\.\d+ on 3 calls .* 0\.05 is allowed"):
        tb.compile(model, (batches[0],), precision="int8", calibration=batches, max_loss=0.05)


@pytest.mark.slow
def test_the_probe_loses_what_the_kernels_lose(net):
    """Bit for bit but for the order of float32 sums, so that the choice rests on what will be."""
    model, batches = net
    module = tb.compile(model, (batches[0],), precision="int8", max_loss=1)
    probe = rounding_probe.RoundingProbe(import_model(model, (batches[0],)), ["0", "2", "4"], 1)
    exact, _ = probe.run("main", [batches[0].numpy()], {})
    np.testing.assert_allclose(exact[0], model(batches[0]).detach(), rtol=1e-4, atol=1e-4)
    ways = {name: rounding_probe.Rounding("int8") for name in ("0", "2", "4")}
    outputs, peaks = probe.run("main", [batches[0].numpy()], ways)
    np.testing.assert_allclose(outputs[0], module(batches[0]), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(peaks["0"], batches[0].abs().amax(0))


@pytest.mark.slow
def test_bfloat16_rounds_weights_alone(net):
    model, batches = net
    module = tb.compile(model, (batches[0][:1],), precision="bfloat16", max_loss=0.05)
    said = module.report.precision
    assert said.precision in ("bfloat16", "float32")
    assert all(kernel in ("cpu_avx512_w16", "cpu_avx512") for kernel in kernels(module).values())


class Attending(nn.Module):
    """Attention with its four layers, whose weights are so large that scores differ."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(64, 64) for _ in range(4))

    def forward(self, x):
        q, k, v = (layer(x).view(*x.shape[:2], 2, 32).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = functional.scaled_dot_product_attention(3 * q, k, v)
        return self.o(y.transpose(1, 2).reshape(x.shape))


@pytest.fixture(scope="module")
def attending():
    torch.manual_seed(0)
    model = Attending().eval()
    tb.prune(model, "4:16")
    return model, [torch.randn(2, 40, 64) for _ in range(2)]


@BFLOAT16
@pytest.mark.slow
def test_attention_in_bfloat16_counts_in_the_budget(attending):
    model, batches = attending
    module = tb.compile(model, (batches[0],), precision="int8", calibration=batches, max_loss=0.05)
    said = module.report.precision
    assert (said.attention, len(said.rounded)) == ("bfloat16", 4)
    assert "4 layers in int8, attention in bfloat16" in module.report.title
    assert said.loss == pytest.approx(lost(module, model, batches), rel=1e-6)
    assert any(row.name.startswith("attention_bf16") for row in module.profile(batches[0], rounds=1).rows)


@BFLOAT16
@pytest.mark.slow
def test_attention_that_loses_too_much_stays_in_float32(attending):
    model, batches = attending
    probe = rounding_probe.RoundingProbe(import_model(model, (batches[0],)), ["q", "k", "v", "o"], 1, attention=True)
    assert probe.attention == 2 * 2 * 40 * 40 * 64
    x = batches[0].numpy()
    want = probe.run("main", [x], {})[0][0]
    got = probe.run("main", [x], {rounding_probe.ATTENTION: rounding_probe.Rounding("bfloat16")})[0][0]
    alone = float(np.linalg.norm(got - want) / np.linalg.norm(want))
    assert 1e-4 < alone < 0.01
    module = tb.compile(model, (batches[0],), precision="bfloat16", calibration=batches, max_loss=2 * alone)
    assert (module.report.precision.attention, module.report.precision.rounded) == ("bfloat16", ())  # no weight waits for memory
    assert module.report.precision.loss == pytest.approx(alone, rel=0.3)
    module = tb.compile(model, (batches[0],), precision="bfloat16", calibration=batches, max_loss=alone / 2)
    said = module.report.precision
    assert said.attention == "float32"
    assert said.kept[rounding_probe.ATTENTION] == pytest.approx(alone, rel=0.3)
    assert not any(row.name.startswith("attention_bf16") for row in module.profile(x, rounds=1).rows)


@pytest.mark.slow
def test_another_machine_gets_what_the_probe_lost(net):
    model, batches = net
    module = tb.compile(model, (batches[0],), target="cpu/sapphirerapids", precision="int8", max_loss=0.05)
    said = module.report.precision
    assert said.simulated == (module.facts.max_error is None)
    assert 0 < said.loss <= 0.05


@pytest.mark.slow
def test_a_target_without_avx512_gets_kernels_of_its_own(net):
    """They give the same integers, so that what is lost is the same but for the order of float32 sums elsewhere."""
    model, batches = net
    options = {"precision": "int8", "calibration": batches, "max_loss": 0.05}
    module = tb.compile(model, (batches[0],), target="cpu/x86-64-v3", **options)
    assert set(kernels(module).values()) == {"cpu_avx2_i8"}
    assert module.report.precision.loss == pytest.approx(lost(module, *net), rel=1e-6)
    assert module.report.precision.loss == pytest.approx(
        tb.compile(model, (batches[0],), **options).report.precision.loss, rel=0.05
    )


@pytest.mark.slow
def test_a_recurrent_layer_rounds_its_input_for_all_steps_at_once_and_its_state_in_each():
    torch.manual_seed(0)
    model, x = nn.LSTM(64, 128, batch_first=True).eval(), torch.randn(2, 20, 64)
    tb.prune(model, "4:16")
    module = tb.compile(model, (x,), precision="int8", max_loss=0.05)
    assert kernels(module)["weight_ih_l0"] in ROUNDS
    assert kernels(module)["weight_hh_l0"] in ROUNDS
    assert module.report.precision.rounded == ("weight_ih_l0", "weight_hh_l0")
    with torch.no_grad():
        want, got = (f(x)[0].double() for f in (model, module))
    assert module.report.precision.losses[0].relative_l2 == pytest.approx(float((got - want).norm() / want.norm()), rel=1e-3)
    assert 1e-4 < module.report.precision.loss <= 0.05


@pytest.mark.slow
def test_convolutions_round_within_the_same_budget():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 40, 3, stride=2)).eval()
    tb.prune(model, "2:16")
    batches = [torch.randn(2, 3, 16, 16) for _ in range(2)]
    module = tb.compile(model, (batches[0],), precision="int8", calibration=batches, max_loss=0.05)
    said = module.report.precision
    assert kernels(module)["3"] == "cpu_conv_sparse_avx512_i8"  # to round three channels costs more than it saves
    assert said.rounded == ("3",)
    assert said.loss == pytest.approx(lost(module, model, batches), rel=1e-4)
    assert 1e-4 < said.loss <= 0.05


@pytest.mark.parametrize(
    "options", [{"precision": "int3"}, {"precision": "int8", "max_loss": -1}, {"precision": "int8", "metric": 3}]
)
def test_bad_options(net, options):
    with pytest.raises(InputError):
        tb.compile(net[0], (net[1][0],), **options)


def test_inspect_says_what_could_be(net):
    report = tb.inspect(net[0], (net[1][0],), precision="int8")
    assert {layer.kernel for layer in report.layers} <= set(ROUNDS)


def test_the_state_of_a_recurrent_layer_stays_exact_where_only_weights_round():
    """The probe knows its loss in 8 bits alone."""
    model, x = nn.RNN(16, 1536, batch_first=True).eval(), torch.randn(1, 3, 16)  # weights that leave the cache
    tb.prune(model, "4:16")
    imported, target = import_model(model, (x,)), host_target()
    found = {
        precision: set(_seconds(imported, KernelSelector.of(target, 1, precision=lambda _, p=precision: p), precision))
        for precision in ("int8", "bfloat16")
    }
    assert "weight_hh_l0" in found["int8"]
    assert "weight_hh_l0" not in found["bfloat16"]
