"""Diagnose why TVM sees no GPU on a machine that has one: TVM silently skips its CUDA library if it
cannot be loaded.
"""

import ctypes
import sys
from pathlib import Path

import tvm

DEVICE = Path("/dev/nvidia0")
LIBRARY = Path(tvm.__file__).parent / "lib" / "libtvm_runtime_cuda.so"


def fault() -> str | None:
    """Return why TVM sees no GPU and what to do; None if it sees one or this machine has no NVIDIA driver."""
    torch = sys.modules.get("torch")
    if tvm.cuda(0).exist or not (DEVICE.exists() or (torch is not None and torch.cuda.is_available())):
        return None
    try:
        ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        return (
            f"TVM cannot load its CUDA library ({error}), which needs the runtime of CUDA 13: "
            "install a torch of CUDA 13, or put the folder of libcudart.so.13 on LD_LIBRARY_PATH"
        )
    return "there is an NVIDIA driver, but CUDA shows TVM no GPU: look at nvidia-smi and CUDA_VISIBLE_DEVICES"
