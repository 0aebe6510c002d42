"""What compiled code may ask the libraries of a process for, by the names that it calls."""

import tvm_ffi

from tvm_balanced.runtime.cuda import torch_attention, torch_conv, torch_dense

FUNCTIONS = {
    torch_dense.FUNCTION: torch_dense.dense,
    torch_conv.FUNCTION: torch_conv.conv,
    torch_attention.USABLE: torch_attention.attention_usable,
    torch_attention.ATTEND: torch_attention.attend,
}


def register() -> None:
    """Let compiled code find the functions under the names that it calls; further calls do nothing."""
    for name, function in FUNCTIONS.items():
        tvm_ffi.register_global_func(name, function, override=True)
