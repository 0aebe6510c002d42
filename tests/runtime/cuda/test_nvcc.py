import pytest

from tvm_balanced.compiler.build import cuda_source
from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.errors import EnvironmentFaultError
from tvm_balanced.runtime.cuda import nvcc
from tvm_balanced.schedules import KERNELS, Workload

SPILLING = """
extern "C" __global__ void __launch_bounds__(1024, 2) heavy(float* x) {
  float a[96];
  for (int i = 0; i < 96; ++i) a[i] = x[i * 2048 + threadIdx.x];
  __syncthreads();
  for (int j = 0; j < 96; ++j) for (int i = 0; i < 96; ++i) a[i] = a[i] * a[(i * 7 + j) % 96] + 1.f;
  for (int i = 0; i < 96; ++i) x[i * 2048 + threadIdx.x] = a[i];
}
extern "C" __global__ void light(float* x) { __shared__ float s[64]; s[threadIdx.x] = x[0]; __syncthreads(); x[0] = s[1]; }
"""


@pytest.mark.slow
@pytest.mark.nvcc
def test_resources_of_each_kernel():
    found = nvcc.resources(SPILLING, "sm_80")
    assert found["light"].shared == 256
    assert (found["light"].spilled, found["light"].stack) == (0, 0)
    assert found["heavy"].spilled + found["heavy"].stack > 0


@pytest.mark.slow
@pytest.mark.nvcc
def test_ptx_and_machine_code():
    text = nvcc.ptx(SPILLING, "sm_80")
    assert ".entry light" in text
    assert nvcc.resources_and_ptx(SPILLING, "sm_80") == (nvcc.resources(SPILLING, "sm_80"), text)
    assert nvcc.cubin(SPILLING, "sm_90")[:4] == b"\x7fELF"


@pytest.mark.nvcc
def test_what_nvcc_refuses_is_its_own_message():
    with pytest.raises(ValueError, match="error"):
        nvcc.resources("this is no CUDA", "sm_80")


def test_without_nvcc_one_sentence(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentFaultError, match="install the CUDA toolkit"):
        nvcc.ptx("", "sm_80")


def test_source_is_generated_for_the_arch_that_was_asked_for(arches):
    workload = Workload("cuda_gemv", 1, 32, 64, 2, 16, "float16")
    kernel = KERNELS[workload.kernel]
    for name, arch in (("a100", "sm_80"), ("h200", "sm_90")):
        arches.clear()
        cuda_source(kernel.schedule(kernel.prim_func(workload), workload, cuda_target(name)), arch)
        assert set(arches) == {arch}


@pytest.mark.nvcc
def test_instructions_of_one_architecture_are_compiled_for_it_alone():
    source = 'extern "C" __global__ void wait() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }'
    assert ".target sm_90a" in nvcc.ptx(source, "sm_90")
    assert ".target sm_90\n" in nvcc.ptx(SPILLING, "sm_90")
    assert nvcc.arch_of(source, "sm_100") == "sm_100"


@pytest.mark.nvcc
def test_a_kernel_that_spills_is_refused_where_it_is_to_hold_all_in_registers():
    spilling = SPILLING.replace("(i * 7 + j) % 96", "(i * 7 + 1) % 96").replace("  for (int i", '  _Pragma("unroll") for (int i')
    spilling = spilling.replace(
        "++j) for (int i", '++j) _Pragma("unroll") for (int i'
    )  # all of `a` in registers, of which 32 are left
    with pytest.raises(ValueError, match=r"heavy spills \d+ bytes, with 32 registers"):
        nvcc.cubin_without_spills(spilling, "sm_80")
    light = SPILLING[SPILLING.index('extern "C" __global__ void light') :]
    assert nvcc.cubin_without_spills(light, "sm_80")[:4] == b"\x7fELF"
