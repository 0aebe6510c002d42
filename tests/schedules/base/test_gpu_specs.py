import pytest
import tvm

from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.schedules.base import gpu_specs, target_info
from tvm_balanced.selection import rooflines


def test_a_target_names_its_gpu():
    for name, gpu in gpu_specs.GPUS.items():
        assert gpu_specs.gpu_of(cuda_target(name)) is gpu
        assert rooflines.machine(cuda_target(name)).gbytes == gpu.gbytes


def test_limits_are_those_of_the_gpu():
    assert int(target_info.limits(cuda_target("h200")).attrs["max_shared_memory_per_block"]) == 227 << 10
    assert target_info.limits(cuda_target("h200")).attrs["arch"] == "sm_90"
    assert int(cuda_target("h200").attrs["max_shared_memory_per_block"]) == 48 << 10


def test_a_target_without_a_name_is_taken_for_the_first_of_its_architecture():
    assert gpu_specs.gpu_of(tvm.target.Target({"kind": "cuda", "arch": "sm_89"}, host="llvm")) is gpu_specs.GPUS["rtx4090"]
    unknown = gpu_specs.gpu_of(tvm.target.Target({"kind": "cuda", "arch": "sm_120"}, host="llvm"))
    assert (unknown.gbytes, unknown.l2_bytes) == (gpu_specs.GPUS["h100"].gbytes, 128 << 20)


def test_shared_memory_goes_by_the_architecture():
    kib = {
        "sm_75": 64,
        "sm_80": 163,
        "sm_86": 99,
        "sm_87": 163,
        "sm_89": 99,
        "sm_90a": 227,
        "sm_100": 227,
        "sm_120": 99,
        "sm_999": 99,
    }
    for arch, most in kib.items():
        target = target_info.limits(tvm.target.Target({"kind": "cuda", "arch": arch}, host="llvm"))
        assert int(target.attrs["max_shared_memory_per_block"]) == most << 10
    assert target_info.shared_bytes(tvm.target.Target("opencl")) == 99 << 10


def test_a_kernel_may_need_a_newer_gpu():
    def target(arch):
        return tvm.target.Target({"kind": "cuda", "arch": arch})

    assert [target_info.capability(target(arch)) for arch in ("sm_75", "sm_90a", "sm_120")] == [75, 90, 120]
    assert target_info.too_old(target("sm_75"), 80) == "it needs sm_80 or newer"
    assert target_info.too_old(target("sm_80"), 80) is None
    assert target_info.too_old(target("sm_120"), 80) is None
    assert target_info.too_old(tvm.target.Target("opencl"), 80) is None


@pytest.mark.parametrize(
    ("device", "arch", "name"),
    [
        ("NVIDIA H200", "sm_90", "h200"),
        ("NVIDIA GH200 480GB", "sm_90", None),
        ("NVIDIA H100 80GB HBM3", "sm_90", "h100"),
        ("NVIDIA A100-SXM4-80GB", "sm_80", "a100"),
        ("NVIDIA GeForce RTX 3090", "sm_86", "rtx3090"),
        ("NVIDIA RTX A6000", "sm_86", None),
        ("NVIDIA H200", "sm_80", None),
    ],
)
def test_devices_are_known_by_what_their_driver_calls_them(device, arch, name):
    assert gpu_specs.named(device, arch) == name
