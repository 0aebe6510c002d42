"""Copy rows of an image in vectors, whose number is known when compiling.

LLVM makes no vectors of a loop over so few elements, nor of one whose bounds depend on where a tile lies.
"""

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from tvm_balanced.schedules.base.expressions import int64

WIDTH = 16  # elements of the widest piece; LLVM splits it where vectors are shorter
UNROLLED = 8  # pieces up to which a row is no loop


def store_zeros(row: tuple[tirx.Buffer, Any, Any], count: int) -> None:
    """Store zeros. Call it inside TVMScript.

    Parameters
    ----------
    row : (patch, the patch's place, its first element)
    count : int
    """
    patch, place, first = row

    def emit(start: Any, width: int) -> None:
        zero = T.broadcast(T.float32(0), width) if width > 1 else T.float32(0)
        T.buffer_store(patch, zero, [place, lanes(first + start, width)])

    each_piece(count, emit)


def copy_elements(x: tuple[tirx.Buffer, Any, Any], row: tuple[tirx.Buffer, Any, Any], count: int, stride: int) -> None:
    """Copy every `stride`-th element of an image. Call it inside TVMScript.

    For stride 2 a piece loads one element more than it needs, which only the last one might not find in the image.

    Parameters
    ----------
    x : (images, an image, its first element that is copied)
    row : (patch, the patch's place, its first element)
    count, stride : int
    """
    (source, image, begin), (patch, place, first) = x, row

    def emit(start: Any, width: int) -> None:
        if stride == 1:
            T.buffer_store(patch, source[image, lanes(begin + start, width)], [place, lanes(first + start, width)])
        elif stride == 2 and width > 1:
            both = source[image, T.ramp(begin + 2 * start, 1, 2 * width)]
            T.buffer_store(patch, T.Shuffle([both], list(range(0, 2 * width, 2))), [place, T.ramp(first + start, 1, width)])
        else:
            with T.serial(int64(width)) as i:
                T.buffer_store(patch, source[image, begin + (start + i) * stride], [place, first + start + i])

    each_piece(count, emit, split=stride == 2)


def each_piece(count: int, emit: Callable[[Any, int], None], split: bool = False) -> None:
    """Call `emit` with the start and the width of each piece of `count` elements; if `split`, the last is one element."""
    start, looped = 0, (count - 1) // WIDTH
    if looped > UNROLLED:
        with T.serial(int64(looped)) as i:
            emit(i * WIDTH, WIDTH)
        start = looped * WIDTH
    while start < count:
        width = min(WIDTH, 1 << ((count - start).bit_length() - 1))
        width = width // 2 if split and width > 1 and start + width == count else width
        emit(start, width)
        start += width


def lanes(first: Any, width: int) -> Any:
    """Return the indices of `width` elements from `first` on."""
    return T.ramp(first, 1, width) if width > 1 else first
