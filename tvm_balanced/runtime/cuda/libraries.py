"""What compiled code may ask the libraries of a process for, by the names that it calls."""

import tvm_ffi

from tvm_balanced.core.library_functions import ATTENTION, ATTENTION_USABLE, CONV, DENSE
from tvm_balanced.runtime.cuda import torch_attention, torch_conv, torch_dense

FUNCTIONS = {
    DENSE: torch_dense.dense,
    CONV: torch_conv.conv,
    ATTENTION_USABLE: torch_attention.attention_usable,
    ATTENTION: torch_attention.attend,
}


def register() -> None:
    """Let compiled code find the functions under the names that it calls; further calls do nothing."""
    for name, function in FUNCTIONS.items():
        tvm_ffi.register_global_func(name, function, override=True)
