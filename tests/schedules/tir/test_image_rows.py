"""Rows of every length and stride, whose image ends where the last element that may be read does."""

import numpy as np
import pytest
import tvm
from support.guarded import guarded
from tvm.script import tirx as T

from tvm_balanced.compiler.build import build
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.tir.image_rows import WIDTH, copy_elements, each_piece, store_zeros

COUNTS = (0, 1, 2, 3, 15, 16, 17, 31, 40, 200)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_element_is_copied_and_none_is_read_past_the_last(stride):
    starts = np.cumsum([0, *(count + 1 for count in COUNTS)])
    size = -(-((max(COUNTS) - 1) * stride + 1) // 16) * 16  # whole lines, so that the guarded page comes right after

    def lay_out(x, y, image):
        for start, count in zip(starts.tolist(), COUNTS, strict=False):
            begin = size - ((count - 1) * stride + 1) if count else 0  # each row ends at the image's last element
            copy_elements((x, image, int64(begin)), (y, image, int64(start)), count, stride)
            store_zeros((y, image, int64(start + count)), 1)

    @T.prim_func(private=True, s_tir=True)
    def copy_rows(x_: T.handle, y_: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        x = T.match_buffer(x_, (int64(1), int64(size)), "float32")
        y = T.match_buffer(y_, (int64(1), int64(int(starts[-1]))), "float32")
        for o in T.grid(int64(1)):
            with T.sblock("copy"):
                vo = T.axis.spatial(int64(1), o)
                T.reads(x[vo, 0:size])
                T.writes(y[vo, 0 : int64(int(starts[-1]))])
                lay_out(x, y, vo)

    x = np.arange(1, size + 1, dtype=np.float32)
    y = tvm.runtime.tensor(np.full((1, starts[-1]), np.nan, np.float32))
    build(copy_rows.with_attr("global_symbol", "main"), host_target())["main"](guarded(x.reshape(1, -1)), y)
    expected = [np.append(x[::-1][: (count - 1) * stride + 1 : stride][::-1] if count else [], 0) for count in COUNTS]
    np.testing.assert_array_equal(y.numpy()[0], np.concatenate(expected))


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("count", [1, 5, 16, 32, 100])
def test_pieces_cover_each_element_once(count, split):
    pieces = []
    each_piece(count, lambda start, width: pieces.append((start, width)), split)
    assert [start + i for start, width in pieces for i in range(width)] == list(range(count))
    assert max(width for _, width in pieces) <= WIDTH
    assert pieces[-1][1] == 1 or not split
