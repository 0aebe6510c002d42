"""How LegalizeOps writes embedding bags down: on a CPU as one function that reads rows where they lie, on a GPU as reductions."""

from typing import Any

from tvm import relax, te, tirx

from tvm_balanced.core.dtypes import HALF_PRECISION
from tvm_balanced.schedules.embedding_bag import MAX, MEAN, EmbeddingBag, prim_func

NAME = "embedding_bag"  # of the functions that are added


def on_cpu(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Return a call of the function of `schedules/embedding_bag.py`."""
    table, places, offsets = (arg.ty for arg in call.args[:3])
    attrs = call.attrs
    of = EmbeddingBag(
        (_size(table.shape[0]), int(table.shape[1])),
        _size(places.shape[0]),
        _size(offsets.shape[0]),
        str(attrs["mode"]),
        int(attrs["padding"]),
        bool(attrs["ends"]),
        len(call.args) > 3,
        str(table.dtype.dtype),
        str(places.dtype.dtype),
    )
    return relax.call_tir(builder.add_func(prim_func(of), NAME), list(call.args), call.ty)


def on_gpu(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Return reductions over all places, of which each bag takes its own; half precision is summed in float32."""
    attrs = call.attrs
    mode, padding, ends = str(attrs["mode"]), int(attrs["padding"]), bool(attrs["ends"])
    return builder.call_te(reductions, *call.args, mode=mode, padding=padding, ends=ends, primfunc_name_hint=NAME)


def reductions(*operands: te.Tensor, mode: str, padding: int, ends: bool) -> te.Tensor:
    """Return the sums, means or maxima of (table, places, offsets[, weights])."""
    table, places, offsets, *weights = operands
    narrow = str(table.dtype)
    wide = "float32" if narrow in HALF_PRECISION else narrow
    bags, length = offsets.shape[0] - (1 if ends else 0), places.shape[0]
    along, counted = (te.reduce_axis((0, length), name=name) for name in ("along", "counted"))

    def inside(bag: Any, at: Any) -> Any:
        last = offsets.shape[0] - 1
        end = offsets(tirx.min(bag + 1, last))
        before = at < end if ends else tirx.any(bag >= last, at < end)
        return tirx.all(at >= offsets(bag), before, *([places(at) != padding] if padding >= 0 else []))

    def row(bag: Any, column: Any) -> Any:
        value = table(places(along), column).astype(wide) * (weights[0](along).astype(wide) if weights else 1)
        return tirx.Select(inside(bag, along), value, tirx.min_value(wide) if mode == MAX else tirx.const(0, wide))

    total = te.max if mode == MAX else te.sum
    gathered = te.compute((bags, table.shape[1]), lambda b, c: total(row(b, c), axis=along), name="gathered")
    count = te.compute((bags,), lambda b: te.sum(inside(b, counted).astype("int32"), axis=counted), name="count")

    def done(bag: Any, column: Any) -> Any:
        value = gathered(bag, column)
        if mode == MAX:
            value = tirx.Select(count(bag) > 0, value, tirx.const(0, wide))
        return (value / tirx.max(count(bag), 1).astype(wide) if mode == MEAN else value).astype(narrow)

    return te.compute((bags, table.shape[1]), done, name="bag")


def _size(size: Any) -> Any:
    """A number, or a variable of the function's own for a size that is known only at the call."""
    return int(size) if isinstance(size, tirx.IntImm) else tirx.Var("n", "int64")
