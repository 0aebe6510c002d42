"""Rounding apart from a kernel that begins with it, so that layers which read the same x share it.

kernel(x, packed..., y)  -->  round_rows(x, values, step, zero), kernel(values, step, zero, packed..., y)
"""

from typing import Any

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Call
from tvm.ir.expr import TensorLoad

BLOCKS = ("extremes", "extremes_of_row", "step", "round")  # of `tir/rounded_rows.py`


def split_rounding(func: tirx.PrimFunc) -> tuple[tirx.PrimFunc, tirx.PrimFunc] | None:
    """Return what rounds x, and the rest of an unscheduled kernel, which takes the rows' values, steps and zeros in its place.

    Zeros are left out if the kernel does not read them. None if it does not begin with rounding.
    """
    if not isinstance(func.body, s_tir.SBlockRealize):
        return None
    root = func.body.block
    statements = list(root.body.seq) if isinstance(root.body, tirx.SeqStmt) else [root.body]
    first = [statement for statement in statements if rounds_rows(statement)]
    rest = statements[len(first) :]
    if len(first) != len(BLOCKS) or any(rounds_rows(statement) for statement in rest):
        return None
    written, read = _written(first), _variables(rest)
    own = [buffer for buffer in root.alloc_buffers if any(buffer.same_as(other) for other in written)]
    other = [buffer for buffer in root.alloc_buffers if not any(buffer.same_as(one) for one in own)]
    outputs = [buffer for buffer in own if _is_used(buffer, read)]
    outputs.sort(key=lambda buffer: (len(buffer.shape) != 2, str(buffer.dtype) != "float32"))
    own = [buffer for buffer in own if not _is_used(buffer, read)]
    x, *params = func.params
    return _function(func, [x, *outputs], first, own), _function(func, [*outputs, *params], rest, other)


def rounds_rows(statement: Any) -> bool:
    """Whether a statement has one of the blocks that round x."""
    names: set[str] = set()
    tvm_ffi.structural_walk(statement, (s_tir.SBlock, lambda block: names.add(str(block.name_hint))))
    return not names.isdisjoint(BLOCKS)


def calls(func: tirx.PrimFunc, name: str) -> bool:
    """Whether a function calls an external one by this name."""
    found: list[Call] = []

    def look(call: Call) -> None:
        if any(str(getattr(arg, "value", "")) == name for arg in call.args):
            found.append(call)

    tvm_ffi.structural_walk(func.body, (Call, look))
    return bool(found)


def _function(func: tirx.PrimFunc, params: list[Any], statements: list[Any], allocated: list[Any]) -> tirx.PrimFunc:
    body = statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
    block = s_tir.SBlock([], [], [], "root", body, None, allocated)
    root = s_tir.SBlockRealize([], tirx.IntImm("bool", 1), block)
    kept = {name: func.attrs[name] for name in ("tirx.noalias", "s_tir", "op_pattern") if name in func.attrs}
    return tirx.PrimFunc(params, root).with_attrs(kept)


def _written(statements: list[Any]) -> list[tirx.Buffer]:
    found: list[tirx.Buffer] = []
    for statement in statements:
        tvm_ffi.structural_walk(statement, (tirx.BufferStore, lambda store: found.append(store.buffer)))
    return found


def _variables(statements: list[Any]) -> list[Any]:
    """Return what statements name: variables, and the buffers that they read. Some instructions read by a buffer's address."""
    found: list[Any] = []
    for statement in statements:
        tvm_ffi.structural_walk(statement, (tirx.Var, found.append))
        tvm_ffi.structural_walk(statement, (TensorLoad, lambda load: found.append(load.source)))
    return found


def _is_used(buffer: tirx.Buffer, names: list[Any]) -> bool:
    return any(buffer.same_as(name) or buffer.data.same_as(name) for name in names)
