import hashlib
import json

import pytest
import torch
import tvm
import tvm_ffi

import tvm_balanced as tb
from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.errors import ArtifactError, InputError, TargetError
from tvm_balanced.runtime.cuda import cubins
from tvm_balanced.runtime.tensors import check_device


@pytest.fixture(scope="module")
def compiled():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(512, 256), torch.nn.GELU(), torch.nn.Linear(256, 128)).half().eval()
    tb.prune(model, "2:16")
    return tb.compile(model, (torch.randn(4, 512).half(),), target="cuda/h200")


def test_a_model_compiles_for_a_gpu_that_is_not_there(compiled):
    assert [layer.kernel for layer in compiled.report.layers] == ["cuda_gemv", "cuda_gemv"]
    (source,) = cubins.sources(compiled.executable)
    assert "cuda_gemv" in source
    with pytest.raises(TargetError, match="cannot run"):
        compiled(torch.zeros(4, 512).half())


@pytest.mark.nvcc
def test_an_artifact_holds_machine_code(compiled, tmp_path):
    compiled.save(tmp_path / "a.tb")
    (file,) = (tmp_path / "a.tb" / "gpu").glob("*.cubin")
    (source,) = cubins.sources(compiled.executable)
    assert file.stem == hashlib.sha256(source.encode()).hexdigest()
    assert file.read_bytes()[:4] == b"\x7fELF"
    assert f"gpu/{file.name}" in json.loads((tmp_path / "a.tb" / "manifest.json").read_text())["sha256"]
    if not torch.cuda.is_available():
        with pytest.raises(ArtifactError, match="GPU of sm_90"):
            tb.load(tmp_path / "a.tb")


def test_tvm_is_given_the_machine_code_of_a_known_source(tmp_path):
    (tmp_path / f"{hashlib.sha256(b'known').hexdigest()}.cubin").write_bytes(b"machine code")
    cubins.add({file.stem: file.read_bytes() for file in tmp_path.glob("*.cubin")})
    assert bytes(tvm_ffi.get_global_func(cubins.CALLBACK)("known")) == b"machine code"


def test_this_machines_gpu_is_asked_for_in_one_sentence():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(TargetError, match="no NVIDIA GPU; name a GPU to compile for another machine: cuda/a100"):
        tb.compile(torch.nn.Linear(4, 4), (torch.zeros(1, 4),), target="cuda")


def test_inputs_of_a_gpu_module_must_be_there():
    with pytest.raises(InputError, match=r'pass x.to\("cuda:0"\)'):
        check_device(TensorSpec("x", (1,), "float16"), torch.device("cpu"), tvm.cuda(0))
