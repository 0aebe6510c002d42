"""The library that compiled code asks before it runs a kernel of its own: the torch of this process.

torch takes part if it is loaded and uses CUDA, on its current stream, as all calls of a module. So a
CUDA graph captures what it launches. `TVM_BALANCED_LIBRARY=own` turns it off for everything.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tvm_balanced.runtime.cuda.borrowed_tensor import Borrowed

SWITCH, OWN = "TVM_BALANCED_LIBRARY", "own"


def turned_off(switch: str = SWITCH) -> bool:
    """Whether SWITCH, or a further environment variable, turns libraries off."""
    return OWN in (os.environ.get(SWITCH), os.environ.get(switch))


def usable(kind: str, switch: str = SWITCH) -> bool:
    """Whether torch is in this process, runs on the same stream as compiled code, and is not turned off.

    Parameters
    ----------
    kind : str
        The kind of the target. On a CPU, torch always runs as compiled code does.
    switch : str
        A further environment variable that may turn it off.
    """
    torch = sys.modules.get("torch")
    if torch is None or turned_off(switch):
        return False
    return kind != "cuda" or bool(torch.cuda.is_initialized())


def borrowed(torch: Any, kind: str) -> Borrowed:
    """Return what makes torch tensors over memory of compiled code, on torch's current device."""
    return Borrowed(torch.utils.dlpack.from_dlpack, kind, torch.cuda.current_device() if kind == "cuda" else 0)


def in_place(torch: Any) -> Mapping[str, Callable[[Any], Any]]:
    """Return for each activation what applies it to a tensor where it lies."""
    functional, aten = torch.nn.functional, torch.ops.aten
    return {
        "none": lambda y: y,
        "relu": torch.relu_,
        "gelu": aten.gelu_,
        "gelu_tanh": lambda y: aten.gelu_(y, approximate="tanh"),
        "silu": lambda y: functional.silu(y, inplace=True),
    }
