import torch
import tvm
from torch import nn

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.runtime.host import host_target
from tvm_balanced.transform.pipeline import lower
from tvm_balanced.transform.workarounds.mark_noalias import NOALIAS, MarkNoalias

BATCH = ({0: torch.export.Dim("batch")},)


def test_functions_on_shapes_are_marked_and_others_are_left(mlp):
    mod = lower(import_model(*mlp, dynamic_shapes=BATCH).mod, host_target()).mod
    functions = {var.name_hint: func for var, func in mod.functions_items() if isinstance(func, tvm.tirx.PrimFunc)}
    assert "shape_func" in functions
    assert all(func.attrs[NOALIAS] for func in functions.values())
    without = functions["shape_func"].without_attr(NOALIAS)
    plain = functions[next(name for name in functions if name != "shape_func")].without_attr(NOALIAS)
    marked = MarkNoalias()(tvm.IRModule({"shape_func": without, "plain": plain}))
    assert marked["shape_func"].attrs[NOALIAS]
    assert NOALIAS not in marked["plain"].attrs


def test_kernels_of_a_symbolic_m_keep_their_sums_in_registers():
    """As where M is known, whose buffers LLVM knows not to overlap; what it says of a function shows in its parameters."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 64)
    for dynamic in (None, BATCH):
        module = tb.compile(layer, (torch.randn(8, 64),), dynamic_shapes=dynamic, kernels={"*": "cpu_dense"})
        source = module.executable.mod.imports[0].inspect_source("ll")
        (kernel,) = [line for line in source.splitlines() if line.startswith("define") and "__tvm_ffi_cpu_dense" in line]
        assert "noalias" in kernel
