"""The hand-written AVX-512 kernel, which only a clone of the repository has."""

import importlib.util
from pathlib import Path
from types import ModuleType

import tvm_balanced
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS


def reference_module() -> ModuleType | None:
    """Return a clone's benchmarks/reference/cpu_reference.py; None if this is not a clone or the
    CPU has no AVX-512.
    """
    path = Path(tvm_balanced.__file__).resolve().parent.parent / "benchmarks" / "reference" / "cpu_reference.py"
    if not path.is_file() or KERNELS["cpu_avx512"].refuses(host_target(), 16, 16, "float32") is not None:
        return None
    spec = importlib.util.spec_from_file_location("cpu_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
