import pytest

from benchmarks.gpu import registers


def test_warps_by_registers():
    assert registers.warps(32) == 64
    assert registers.warps(56) == 36
    assert registers.warps(255) == 8


@pytest.mark.nvcc
@pytest.mark.parametrize("arch", [pytest.param(arch, marks=[pytest.mark.slow] * (arch != "sm_90")) for arch in registers.ARCHS])
def test_a_kernel_spills_on_no_architecture(arch, monkeypatch):
    monkeypatch.setattr(registers, "CELLS", registers.CELLS[:1])
    (compiled,) = registers.sources([arch])
    row = dict(zip(registers.HEADER, compiled.row(), strict=True))
    assert row["spilled bytes"] == row["stack bytes"] == 0
    assert 16 < row["registers"] < 128
