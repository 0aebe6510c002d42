import os

import pytest
import tvm
import tvm_ffi

from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.errors import EnvironmentFaultError
from tvm_balanced.runtime.cuda import cubins, toolchain

H200 = cuda_target("h200")


@pytest.fixture
def asked(monkeypatch):
    """Ways of compiling in the order that they are tried in; `fails` is what each fails with. TVM compiles, as with a GPU."""
    asked = []
    asked_fails = {}

    def compile_cuda(source, target_format, compiler):
        assert "cuda_bf16.h" in source
        asked.append((compiler, target_format, str(tvm.target.Target.current().attrs["arch"])))
        if compiler in asked_fails:
            raise asked_fails[compiler]

    monkeypatch.setenv(toolchain.MODE, "")  # restores the variable after the test
    del os.environ[toolchain.MODE]
    monkeypatch.setattr(toolchain, "_ours", set())
    monkeypatch.setattr(toolchain, "compiles", lambda: True)
    monkeypatch.setattr(toolchain, "compile_cuda", compile_cuda)
    return asked, asked_fails


def test_nvrtc_is_taken_where_it_works(asked):
    toolchain.choose(H200)
    toolchain.choose(H200)
    assert asked[0] == [("nvrtc", "cubin", "sm_90")]
    assert os.environ[toolchain.MODE] == "nvrtc"


def test_nvcc_is_taken_where_nvrtc_does_not_work(asked):
    asked[1]["nvrtc"] = RuntimeError("cuda-bindings is not available.\nSee the manual")
    toolchain.choose(H200)
    assert asked[0] == [("nvrtc", "cubin", "sm_90"), ("nvcc", "fatbin", "sm_90")]
    assert os.environ[toolchain.MODE] == "nvcc"


def test_nvcc_is_taken_first_where_many_are_compiled_at_once(asked):
    toolchain.choose(H200, at_once=True)
    assert asked[0] == [("nvcc", "fatbin", "sm_90")]
    assert os.environ[toolchain.MODE] == "nvcc"


def test_nvrtc_gives_way_to_nvcc_when_tuning_begins(asked):
    toolchain.choose(H200)
    toolchain.choose(H200, at_once=True)
    assert os.environ[toolchain.MODE] == "nvcc"


def test_without_nvcc_many_are_compiled_by_nvrtc(asked):
    asked[1]["nvcc"] = FileNotFoundError("no nvcc")
    toolchain.choose(H200, at_once=True)
    assert os.environ[toolchain.MODE] == "nvrtc"


def test_where_nothing_works_one_sentence_says_why_and_what_to_do(asked):
    asked[1].update(nvrtc=RuntimeError("no cuda-bindings.\nSee the manual"), nvcc=FileNotFoundError("a page\nno nvcc"))
    with pytest.raises(EnvironmentFaultError, match=r"NVRTC \(no cuda-bindings\) nor with nvcc \(no nvcc\); install") as error:
        toolchain.choose(H200)
    assert "tvm-balanced[cuda]" in str(error.value)
    assert "\n" not in str(error.value)
    assert toolchain.MODE not in os.environ


def test_what_the_user_chose_stays(asked, monkeypatch):
    monkeypatch.setattr(toolchain, "_ours", set())
    monkeypatch.setenv(toolchain.MODE, "nvrtc")
    toolchain.choose(H200)
    toolchain.choose(H200, at_once=True)
    assert asked[0] == []


def test_nothing_is_tried_where_tvm_keeps_the_source(asked, monkeypatch):
    monkeypatch.setattr(toolchain, "compiles", lambda: False)
    toolchain.choose(H200)
    assert asked[0] == []


@pytest.mark.nvcc
def test_the_source_compiles(monkeypatch):
    monkeypatch.setattr(toolchain, "compiles", lambda: True)
    monkeypatch.setattr(toolchain, "FORMATS", {"nvcc": "fatbin"})
    monkeypatch.setenv(toolchain.MODE, "")
    del os.environ[toolchain.MODE]
    toolchain.choose(H200)
    assert os.environ[toolchain.MODE] == "nvcc"


def test_compiling_tuning_and_loading_choose(asked, monkeypatch, tmp_path, mlp):
    import tvm_ffi

    import tvm_balanced as tb
    from tvm_balanced.tuning.runners.gpu import GpuRunner

    asked[1].update(nvrtc=RuntimeError("not here"), nvcc=RuntimeError("not here"))
    model, inputs = mlp
    with pytest.raises(EnvironmentFaultError):
        tb.compile(model, inputs, target=H200)
    with pytest.raises(EnvironmentFaultError):
        GpuRunner(H200)
    cubins.add({file.stem: file.read_bytes() for file in tmp_path.glob("*.cubin")})
    with H200, pytest.raises(EnvironmentFaultError):  # not RuntimeError, though TVM has passed it on
        tvm_ffi.get_global_func(cubins.CALLBACK)("unknown")


def test_tvm_compiles_wgmma_for_its_own_architecture():
    seen = []
    compile_source = toolchain.for_own_arch(lambda _: seen.append(str(tvm.target.Target.current().attrs["arch"])))
    with H200:
        compile_source("wgmma.fence.sync.aligned;")
        compile_source("mma.sync.aligned")
    with cuda_target("a100"):
        compile_source("wgmma.fence.sync.aligned;")
    assert seen == ["sm_90a", "sm_90", "sm_80"]


def test_tvm_is_given_that_compiler_once(monkeypatch):
    given = []
    monkeypatch.setattr(toolchain, "compiles", lambda: True)
    monkeypatch.setattr(toolchain, "_installed", False)
    monkeypatch.setattr(tvm_ffi, "register_global_func", lambda name, func, override: given.append((name, func, override)))
    monkeypatch.setenv(toolchain.MODE, "nvcc")
    for _ in range(2):
        toolchain.choose(H200)
    assert [name for name, _, _ in given] == [toolchain.CALLBACK]


def test_nvcc_refuses_what_spills_where_that_is_asked_for(monkeypatch):
    """As a candidate of the tuner; elsewhere, and by NVRTC, it is compiled."""
    compiled = []
    monkeypatch.setattr(toolchain.nvcc, "cubin_without_spills", lambda source, arch: compiled.append((source, arch)) or b"code")
    compile_source = toolchain.for_own_arch(lambda source: f"plain {source}")
    monkeypatch.setenv(toolchain.MODE, "nvcc")
    with H200:
        assert compile_source("a") == "plain a"
        with toolchain.without_spills():
            assert compile_source("b") == b"code"
            monkeypatch.setenv(toolchain.MODE, "nvrtc")
            assert compile_source("c") == "plain c"
        assert compile_source("d") == "plain d"
    assert compiled == [("b", "sm_90")]
