"""What is counted, and that docs/cuda.md has what is printed."""

from pathlib import Path

import pytest

from benchmarks.gpu import counts
from tvm_balanced.errors import EnvironmentFaultError

PAGE = (Path(__file__).parents[2] / "docs" / "cuda.md").read_text()
CODE = """
.text.main_kernel:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
.L_x_0:
        /*0020*/                   FFMA.FTZ R5, R4, R6, R5 ;
        /*0030*/              @!P0 IADD3 R2, R2, 0x1, RZ ;
        /*0040*/                   FFMA.FTZ R5, R4, R6, R5 ;
        /*0050*/               @P0 BRA `(.L_x_0) ;
        /*0060*/              @!P1 BRA `(.L_x_2) ;
        /*0070*/               @P1 BRA `(.L_x_1) ;
.L_x_2:
        /*0080*/                   EXIT ;
"""


def test_the_innermost_loop_that_multiplies_is_counted():
    found = counts.loop(CODE, counts.multiply_adds)
    assert found == ["FFMA.FTZ", "IADD3", "FFMA.FTZ", "BRA"]
    assert counts.multiply_adds(found) == 2
    assert counts.loop(CODE.replace("@P0 BRA `(.L_x_0)", "NOP"), counts.multiply_adds)[0] == "LDG.E.128"
    assert counts.loop(CODE.replace("FFMA.FTZ", "HMMA.16816.F32"), counts.products)[0] == "HMMA.16816.F32"
    assert counts.loop(CODE.replace("FFMA.FTZ", "HGMMA.64x64x16.F32"), counts.products)[0] == "HGMMA.64x64x16.F32"
    assert counts.loop("", counts.products) == []


@pytest.mark.parametrize("part", ["bytes", "clusters"])
def test_the_page_has_what_is_printed(part):
    rows = list(counts.PARTS[part]())[2:]
    assert len(rows) == {"bytes": len(counts.PATTERNS), "clusters": len(counts.CLUSTERS)}[part]
    assert [row for row in rows if row not in PAGE] == []


def test_the_page_has_the_losses_and_the_times_of_tensor_cores():
    whole, e4m3 = (line.split("|")[2].strip() for line in list(counts.rounding())[2:])
    (times,) = counts.tensor_cores()
    assert f"loses {e4m3} of its norm\nin place of {whole}" in PAGE
    mma, peak = (word for word in times.split() if word.isdigit())
    assert f"take {mma} us of\n28672x8192 at 64 rows by mma; at wgmma's peak it is {peak}." in PAGE


def test_a_missing_disassembler_is_said(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentFaultError, match="pip install nvidia-cuda-nvdisasm"):
        counts.disassembled(b"")
    monkeypatch.setattr(counts, "PARTS", {"instructions": lambda: iter([counts.disassembled(b"")])})
    monkeypatch.setattr("sys.argv", ["counts"])
    assert counts.main() == 2
    assert "nvdisasm was not found" in capsys.readouterr().err
