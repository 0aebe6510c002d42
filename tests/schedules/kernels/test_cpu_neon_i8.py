"""The NEON kernel of 8-bit dot products: compiled here by LLVM, linked by a cross compiler, run by qemu."""

import numpy as np
import pytest
import torch
import tvm
from support import aarch64, eight_bits, reference
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
KERNEL = KERNELS["cpu_neon_i8"]
CPU = "cortex-a76"  # ARMv8.2-A with dotprod
ARM = aarch64.target(CPU)
SIZES = ((40, 33, "2:16"), (17, 16, "8:16"), (64, 128, "4:16"), (1, 100, "1:16"), (130, 47, "12:16"), (33, 200, "3:16"))


@pytest.mark.parametrize(("m", "pattern"), [(1, "2:16"), (8, "2:16"), (8, "4:16")])
def test_inner_loop_is_look_ups_and_dot_products_without_spills(m, pattern):
    loop = aarch64.loop_of("cpu_neon_i8", CPU, "sdot", m, pattern)
    found = aarch64.count(loop, "tbl", "sdot", "and")
    assert found["tbl"] == found["sdot"] > 0
    assert found["and"] * (1 if m == 1 else 2) <= found["sdot"]  # rows of x share what is decoded
    assert not any("[sp" in line and "\tst" in line for line in loop)


def test_refuses_what_it_cannot_compute():
    assert "no 64-bit ARM" in KERNEL.refuses(tvm.target.Target({"kind": "llvm", "mcpu": "znver4"}), 64, 64, "float32")
    assert "dotprod" in KERNEL.refuses(aarch64.target("generic"), 64, 64, "float32")
    assert "float16" in KERNEL.refuses(ARM, 64, 64, "float16")
    assert "K = 15" in KERNEL.refuses(ARM, 64, 15, "float32")
    assert "65536" in KERNEL.refuses(ARM, 64, 65537, "float32")
    assert KERNEL.refuses(ARM, 1, 16, "float32") is None


def test_one_packed_weight_serves_avx512_too(rng):
    encoded = encode(reference.balanced(40, 100, P("3:16"), rng), P("3:16"))
    for ours, theirs in zip(KERNEL.pack(encoded), KERNELS["cpu_avx512_i8"].pack(encoded), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("cpu", "kernel"), [(CPU, "cpu_neon_i8"), ("generic", "cpu_neon")])
def test_the_verdict_takes_it_where_8_bits_are_allowed(cpu, kernel, rng):
    layer = DenseLayer("fc", 2, 768, 768, "float32", detect(reference.balanced(768, 768, P("2:16"), rng)))
    target = aarch64.target(cpu)
    assert KernelSelector(target, roofline_of(target), precision=lambda _layer: "int8")(layer)[0].kernel == kernel
    assert KernelSelector(target, roofline_of(target))(layer)[0].kernel == "cpu_neon"


class Layers(nn.Module):
    """Layers of ragged sizes, each on an input of its own; and a dense one."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(k, n, bias=False) for n, k, _ in SIZES)
        tb.prune(self.eval(), {f"layers.{i}": pattern for i, (_, _, pattern) in enumerate(SIZES)})

    def forward(self, *inputs):
        return tuple(layer(x) for layer, x in zip(self.layers, inputs, strict=True))


@aarch64.on_qemu
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kernel", ["cpu_neon_i8", "cpu_dense_i8"])
def test_sums_are_those_of_integers_bit_for_bit_on_arm(kernel, tmp_path, rng):
    """Under qemu: any number of rows; where rounding changes no x, the bits of NumPy's integers."""
    torch.manual_seed(0)
    model = Layers()
    inputs = tuple(torch.randn(3, k) for _, k, _ in SIZES)
    rows = ({0: torch.export.Dim("rows", max=40)},) * len(inputs)
    module = tb.compile(model, inputs, target=ARM, threads=1, dynamic_shapes={"inputs": rows}, kernels={"*": kernel})
    assert {layer.kernel for layer in module.report.layers} == {kernel}
    assert "dotprod" in module.facts.features
    module.save(tmp_path / "m.tb", cc=aarch64.CXX)
    weights = [layer.weight.detach().numpy() for layer in model.layers]
    for count in (1, 2, 7):
        arrays = [eight_bits.on_steps(count, k, rng) for _, k, _ in SIZES]
        for got, x, weight in zip(aarch64.called(tmp_path / "m.tb", module, arrays, tmp_path), arrays, weights, strict=True):
            np.testing.assert_array_equal(got, eight_bits.dense(x, weight))
    arrays = [rng.standard_normal((5, k)).astype(np.float32) for _, k, _ in SIZES]
    for got, x, weight in zip(aarch64.called(tmp_path / "m.tb", module, arrays, tmp_path), arrays, weights, strict=True):
        assert (np.abs(got - reference.dense(x, weight)) <= eight_bits.allowed_error(x, weight)).all()
