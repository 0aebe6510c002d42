"""The NEON kernel: compiled here by LLVM, linked by a cross compiler, run by qemu through the C++ loader."""

import numpy as np
import pytest
import torch
import tvm
from support import aarch64, reference
from torch import nn

import tvm_balanced as tb
from tvm_balanced.core.detection import detect
from tvm_balanced.core.encoding import encode
from tvm_balanced.core.layer_plan import DenseLayer
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.selection.rooflines import roofline_of

pytestmark = pytest.mark.xdist_group("aarch64")
P = BalancedPattern.parse
KERNEL = KERNELS["cpu_neon"]
ARM = aarch64.target("generic")


@pytest.mark.grid
@pytest.mark.parametrize("m", [1, 8])
@pytest.mark.parametrize("pattern", ["2:16", "4:16"])
def test_inner_loop_is_look_ups_and_multiply_adds_without_spills(m, pattern):
    loop = aarch64.loop_of("cpu_neon", "generic", "fmla", m, pattern)
    found = aarch64.count(loop, "tbl", "fmla", "mla")
    assert found["tbl"] == found["fmla"] == 32
    assert found["mla"] == (32 if m == 1 else 16)  # rows of x share what is decoded
    assert not any("[sp" in line and "\tst" in line for line in loop)


def test_refuses_what_it_cannot_compute():
    for target in (
        {"kind": "llvm", "mcpu": "x86-64-v3"},
        {"kind": "llvm", "mtriple": "armv7-linux-gnueabihf"},
        {"kind": "cuda", "arch": "sm_90"},
    ):
        assert "no 64-bit ARM" in KERNEL.refuses(tvm.target.Target(target), 64, 64, "float32")
    assert "float16" in KERNEL.refuses(ARM, 64, 64, "float16")
    assert "K = 15" in KERNEL.refuses(ARM, 64, 15, "float32")
    assert KERNEL.refuses(ARM, 1, 16, "float32") is None


def test_one_packed_weight_serves_avx512_too(rng):
    encoded = encode(reference.balanced(40, 100, P("3:16"), rng), P("3:16"))
    for ours, theirs in zip(KERNEL.pack(encoded), KERNELS["cpu_avx512"].pack(encoded), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("m", "kernel"), [(1, "cpu_neon"), (2, "cpu_neon"), (64, "cpu_portable")])
def test_the_verdict_takes_it_for_few_rows(m, kernel, rng):
    layer = DenseLayer("fc", m, 768, 768, "float32", detect(reference.balanced(768, 768, P("2:16"), rng)))
    assert KernelSelector(ARM, roofline_of(ARM))(layer)[0].kernel == kernel


class Layers(nn.Module):
    """Layers of ragged sizes, with and without a bias, each on an input of its own."""

    SIZES = ((40, 33, "2:16"), (17, 16, "8:16"), (64, 128, "4:16"), (1, 100, "1:16"), (130, 47, "12:16"))

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(k, n, bias=i % 2 == 0) for i, (n, k, _) in enumerate(self.SIZES))
        tb.prune(self.eval(), {f"layers.{i}": pattern for i, (_, _, pattern) in enumerate(self.SIZES)})

    def forward(self, *inputs):
        first, *others = (layer(x) for layer, x in zip(self.layers, inputs, strict=True))
        return torch.relu(first), *others


@aarch64.on_qemu
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_layers_and_a_model_are_right_on_arm(tmp_path, rng):
    """Under qemu: any number of rows, against float64; and the self-test of what was compiled here, against PyTorch."""
    torch.manual_seed(0)
    model = Layers()
    inputs = tuple(torch.randn(3, k) for _, k, _ in Layers.SIZES)
    rows = ({0: torch.export.Dim("rows", max=40)},) * len(inputs)
    module = tb.compile(model, inputs, target=ARM, threads=1, dynamic_shapes={"inputs": rows}, kernels={"*": "cpu_neon"})
    assert {layer.kernel for layer in module.report.layers} == {"cpu_neon"}
    assert "neon" in module.facts.features
    module.save(tmp_path / "m.tb", cc=aarch64.CXX)
    assert "main: ok" in aarch64.ran(tmp_path / "m.tb")
    for count in (1, 2, 7, 40):
        arrays = [rng.standard_normal((count, k)).astype(np.float32) for _, k, _ in Layers.SIZES]
        outputs = aarch64.called(tmp_path / "m.tb", module, arrays, tmp_path)
        for i, (layer, x, got) in enumerate(zip(model.layers, arrays, outputs, strict=True)):
            weight, bias = layer.weight.detach().numpy(), None if layer.bias is None else layer.bias.detach().numpy()
            operands = (x, weight, bias, "relu" if i == 0 else "none")
            assert (np.abs(got - reference.dense(*operands)) <= reference.allowed_error(*operands)).all()
