"""What compiled code may ask the libraries of a process for, by the names that it calls."""

import tvm_ffi

from tvm_balanced.core.library_functions import ATTENTION, ATTENTION_USABLE, CONV, DENSE, TWO_OF_FOUR
from tvm_balanced.runtime.cuda import torch_attention, torch_conv, torch_dense, torch_two_of_four

FUNCTIONS = {
    DENSE: torch_dense.dense,
    TWO_OF_FOUR: torch_two_of_four.two_of_four,
    CONV: torch_conv.conv,
    ATTENTION_USABLE: torch_attention.attention_usable,
    ATTENTION: torch_attention.attend,
}


def register() -> None:
    """Let compiled code find the functions under the names that it calls; further calls do nothing."""
    for name, function in FUNCTIONS.items():
        tvm_ffi.register_global_func(name, function, override=True)
