import pytest
import tvm_ffi

from benchmarks.gpu import known_code
from benchmarks.gpu.device import Absent
from benchmarks.gpu.layer import Cell, scheduled
from tvm_balanced.runtime.cuda import cubins, nvcc
from tvm_balanced.schedules.base.workload import WORKLOAD_ATTR


@pytest.mark.nvcc
def test_code_is_found_by_its_source(tmp_path, monkeypatch):
    device, archive = Absent(), tmp_path / "kernels.zip"
    func = scheduled(Cell(64, 64, 1, "2:16", "float32", "cuda_gemv"), device)
    assert known_code.write(archive, [func, func], device.target) == 1
    monkeypatch.setattr(cubins, "_known", {})
    assert known_code.use(archive) == 1
    (source,) = known_code._sources(func, device.target)
    assert bytes(tvm_ffi.get_global_func(cubins.CALLBACK)(source)).startswith(b"\x7fELF")


def test_an_archive_is_added_to_until_time_is_out(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(known_code, "_sources", lambda func, target: [func])
    monkeypatch.setattr(nvcc, "cubin", lambda source, arch: compiled.append(source) or b"code")
    archive = tmp_path / "kernels.zip"
    assert known_code.write(archive, ["a", "b"], None) == 2
    assert known_code.write(archive, ["a", "c"], None) == 3
    assert known_code.write(archive, ["d"], None, until=0) == 3
    assert sorted(compiled) == ["a", "b", "c"]


def test_every_kernel_of_the_plan_is_scheduled():
    """In its order: here the first few, the correctness of cuda_gemv."""
    for _, func in zip(range(3), known_code.of_plan(Absent()), strict=False):
        assert "cuda_gemv" in str(func.attrs[WORKLOAD_ATTR])
