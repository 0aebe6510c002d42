"""How LegalizeOps lowers a scan: a function over time of `schedules/linear_scan.py`."""

from typing import Any

from tvm import relax, tirx

from tvm_balanced.schedules.linear_scan import LinearScan, prim_func

NAME = "linear_scan"  # of the functions that are added


def on_cpu(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Return a call of the function for a CPU."""
    return _lowered(builder, call, gpu=False)


def on_gpu(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Return a call of the function for a GPU."""
    return _lowered(builder, call, gpu=True)


def _lowered(builder: relax.BlockBuilder, call: relax.Call, gpu: bool) -> relax.Expr:
    a = call.args[0].ty
    batch, channels, length = map(_size, list(a.shape)[:3])
    of = LinearScan(batch, channels, length, int(a.shape[3]), len(call.args) > 3, str(a.dtype.dtype))
    results = list(call.ty.fields) if isinstance(call.ty, relax.TupleType) else call.ty
    return relax.call_tir(builder.add_func(prim_func(of, gpu), NAME), list(call.args), results)


def _size(size: Any) -> Any:
    """A number, or a variable of the function's own for a size that is known only at the call."""
    return int(size) if isinstance(size, tirx.IntImm) else tirx.Var("n", "int64")
