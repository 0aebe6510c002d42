"""What compiled code may ask the libraries of a process for, by the names that it calls."""

import tvm_ffi

from tvm_balanced.runtime.cuda import torch_conv, torch_dense


def register() -> None:
    """Let compiled code find the functions under the names that it calls; further calls do nothing."""
    for name, function in ((torch_dense.FUNCTION, torch_dense.dense), (torch_conv.FUNCTION, torch_conv.conv)):
        tvm_ffi.register_global_func(name, function, override=True)
