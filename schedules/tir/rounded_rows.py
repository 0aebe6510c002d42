"""Rows of x in 8 bits: what kernels of 8-bit dot products begin with.

A row is rounded to 254 equal steps from its smallest value (or 0) to its largest (or 0):

    rounded = min(nearest(x / step + zero), 254)      0 to 254; of two that are as near, the even one
    x      ~= step * (rounded - zero)

Both may be moved, so that dot products of signed bytes can take them: by 127, rounded is -127 to 127.

`zero` is a whole number, so that 0 stays 0. A row whose values lie on one side of 0, as after GELU,
gets steps half as long as if they were counted from -largest to largest: the embeddings of MiniLM at
4:16 then lose 0.027 of their norm instead of 0.047.

8 bits have no NaN and no infinity: if a row has one anywhere, its step is NaN, and so are its results.
"""

from typing import Any, NamedTuple

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.rounding import rounds_rows
from tvm_balanced.schedules.layouts.row_panels import LANES
from tvm_balanced.schedules.tir.statements import all_lanes, first_lane

STEPS = 254  # one less than there is room for; where `zero` is half a step off, the largest value would be the 255th
MOST_COLUMNS = 1 << 16  # a sum of so many products of 255 and 127 still fits 32 bits
SIGN = 0x80000000
WITHOUT_SIGN, INFINITY = 0x7FFFFFFF, 0x7F800000  # bits of a float32; what lies above infinity is NaN
SMALLEST = 1e-36  # the least step: its reciprocal is a number, too
PARALLEL_ELEMENTS = 1 << 15  # from so many elements on, threads share the rounding
WHOLE_FROM = 1.5 * 2**23  # a float32 near this has no bits for a fraction: adding it rounds, and the lowest bits count


def refuse_columns(k: int, block: int = 1) -> str | None:
    """Return why rows of k columns are not multiplied in 8 bits in blocks of so many, None if they are."""
    if k > MOST_COLUMNS:
        return f"K = {k} is more than {MOST_COLUMNS}, whose sums may not fit 32 bits"
    return f"K = {k} is less than one block of {block}" if k < block else None


class RoundedRows(NamedTuple):
    """Rows of x, rounded.

    Parameters
    ----------
    values : buffer (M, columns) uint8, int8 or float32
        Past the last column of x: `zero`.
    step : buffer (M,) float32
    zero : buffer (M,) int32
    """

    values: tirx.Buffer
    step: tirx.Buffer
    zero: tirx.Buffer


def round_rows(x: tirx.Buffer, columns: int, moved_by: Any = 0, dtype: str = "uint8") -> RoundedRows:
    """Emit the blocks that round x (M, K) float32 to rows of `columns` columns, a multiple of 16, less `moved_by`, or less `zero`
    if it is None. Call it inside TVMScript.
    """
    m, k, parts, lanes = x.shape[0], x.shape[1].value, int64(columns // LANES), int64(LANES)
    high, low = T.sblock_alloc_buffer((m, lanes), "int32"), T.sblock_alloc_buffer((m, lanes), "uint32")
    high_of_row, low_of_row = T.sblock_alloc_buffer((m,), "int32"), T.sblock_alloc_buffer((m,), "uint32")
    step, inverse = (T.sblock_alloc_buffer((m,), "float32") for _ in range(2))
    zero = T.sblock_alloc_buffer((m,), "int32")
    values = T.sblock_alloc_buffer((m, int64(columns)), dtype)
    moved = 0 if moved_by is None else moved_by

    def column(row: Any, part: Any, lane: Any) -> Any:
        """Return x, or 0 past the last column."""
        value = x[row, part * LANES + lane]
        if columns == k:
            return value
        inside = part < k // LANES if k % LANES == 0 else part * LANES + lane < int64(k)
        return T.if_then_else(inside, value, T.float32(0))

    with T.grid(m, parts, lanes) as (i, p, j), T.sblock("extremes"):
        vi, vp, vj = T.axis.spatial(m, i), T.axis.reduce(parts, p), T.axis.spatial(lanes, j)
        with T.init():
            T.buffer_store(high, T.int32(0), [vi, vj])
            T.buffer_store(low, T.uint32(SIGN), [vi, vj])
        value = column(vi, vp, vj)
        T.buffer_store(high, T.max(high[vi, vj], T.reinterpret("int32", value)), [vi, vj])
        T.buffer_store(low, T.max(low[vi, vj], T.reinterpret("uint32", value)), [vi, vj])
    with T.grid(m, int64(1)) as (i, p), T.sblock("extremes_of_row"):
        vi, vp = T.axis.spatial(m, i), T.axis.spatial(int64(1), p)
        all_ = T.ramp(vp * LANES, 1, LANES)
        T.reads(*(buffer[vi, vp * LANES : vp * LANES + LANES] for buffer in (high, low)))
        T.writes(*(buffer[vi] for buffer in (high_of_row, low_of_row)))
        # of a vector, pairs first: with one lane after the other rounding 128x384 took 1.2x the time
        T.buffer_store(high_of_row, first_lane(all_lanes(high[vi, all_], T.max)), [vi])
        T.buffer_store(low_of_row, first_lane(all_lanes(low[vi, all_], T.max)), [vi])
    with T.serial(m) as i, T.sblock("step"):
        vi = T.axis.spatial(m, i)
        long = step_between(high_of_row[vi], low_of_row[vi])
        short = T.float32(1) / long
        T.buffer_store(step, long, [vi])
        T.buffer_store(inverse, short, [vi])
        # as rows are rounded below, so that the smallest value never is below 0
        nearest = (T.float32(WHOLE_FROM) - T.reinterpret("float32", low_of_row[vi]) * short) - T.float32(WHOLE_FROM)
        T.buffer_store(zero, whole(nearest) - moved, [vi])
    with T.grid(m, parts, lanes) as (i, p, j), T.sblock("round"):
        vi, vp, vj = T.axis.spatial(m, i), T.axis.spatial(parts, p), T.axis.spatial(lanes, j)
        shifted = column(vi, vp, vj) * inverse[vi] + (T.cast(zero[vi] + moved, "float32") + T.float32(WHOLE_FROM))
        nearest = T.min(shifted, T.float32(WHOLE_FROM + STEPS))
        if moved_by is None:
            less = nearest - (T.cast(zero[vi], "float32") + T.float32(WHOLE_FROM))
            T.buffer_store(values, less, [vi, vp * LANES + vj])
        else:  # the lowest bits of the float are those of the whole number
            T.buffer_store(values, T.cast(T.reinterpret("int32", nearest) - moved, dtype), [vi, vp * LANES + vj])
    return RoundedRows(values, step, zero)


def step_between(high: Any, low: Any) -> Any:
    """Return the step of numbers whose ends are given by their bits, float32; NaN if one of them is not finite.

    Floats are compared by their bits, one instruction an end: as signed integers the largest is the largest positive number, as
    unsigned ones that which is furthest below 0. NaN and infinities are beyond all numbers either way; a maximum of floats would
    forget a NaN. `high` begins as 0 and `low` as SIGN, the bits of -0.

    Parameters
    ----------
    high : int32
    low : uint32
    """
    size_of_low = T.reinterpret("int32", T.bitwise_and(low, T.uint32(WITHOUT_SIGN)))
    finite = tirx.all(high < T.int32(INFINITY), size_of_low < T.int32(INFINITY))
    # each end by itself, since their difference may be no float32
    above, below = (T.reinterpret("float32", end) / T.float32(STEPS) for end in (high, low))
    return T.if_then_else(finite, T.max(above - below, T.float32(SMALLEST)), T.float32(float("nan")))


def whole(value: Any) -> Any:
    """Return the whole part of a positive number; 0 for a NaN, of which LLVM leaves open what integer it is."""
    return T.cast(T.max(value, T.float32(0)), "int32")


def schedule_rounding(sch: Schedule, m: int | None, k: int) -> None:
    """Schedule the blocks of `round_rows`: vectors of x where K is whole vectors, one row after the other, on all threads if
    that is worth waking them. A function that is given rounded rows has none of them.
    """
    if not rounds_rows(sch.mod["main"].body):
        return
    row = sch.get_loops(sch.get_sblock("extremes"))[0]
    for name in ("extremes_of_row", "step", "round"):  # not to the last one: what reads the steps is far from there
        sch.reverse_compute_at(sch.get_sblock(name), row, preserve_unit_loops=True)
    if k % LANES == 0:
        for name in ("extremes", "round"):  # now, for a block that moves gets new loops
            sch.vectorize(sch.get_loops(sch.get_sblock(name))[-1])
    if m is None or m * k >= PARALLEL_ELEMENTS:
        sch.parallel(row)


def dequantized(sums: Any, totals: Any, scales: Any, step: Any, zero: Any) -> Any:
    """Return sums of products as numbers: vectors of sums (int32), of the totals (int32) and scales (float32) of the weight's
    rows; step and zero of the row of x.
    """
    return scaled(sums + less_zero(totals, zero), scales, step)


def less_zero(totals: Any, zero: Any) -> Any:
    """Return what the zero of a row of x takes off its sums, which they may begin with: a vector (int32) like the totals."""
    return totals * T.broadcast(-zero, totals.ty.dtype.lanes)


def scaled(sums: Any, scales: Any, step: Any) -> Any:
    """Return sums (int32) that the zero of a row of x is taken off, as numbers."""
    lanes = sums.ty.dtype.lanes
    # by one scale after the other: their product may be too small for float32
    return T.cast(sums, f"float32x{lanes}") * scales * T.broadcast(step, lanes)
