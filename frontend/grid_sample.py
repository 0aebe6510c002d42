"""Sampling an image at places that a grid gives, written in operators that TVM's importer takes."""

from collections.abc import Callable

import torch

BILINEAR, NEAREST = 0, 1  # 2 is bicubic
ZEROS, BORDER = 0, 1  # 2 is reflection
CUBIC = -0.75  # torch's slope of a bicubic interpolation

Pixel = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def grid_sampler_2d(
    image: torch.Tensor, grid: torch.Tensor, mode: int = 0, padding: int = 0, align_corners: bool = False
) -> torch.Tensor:
    """Pixels of `image` (N, C, H, W) at the places (x, y) of `grid` (N, h, w, 2), of which -1 and 1 are the edges.

    A pixel outside is 0 whatever the image holds: torch's own decomposition multiplies a pixel inside by 0 in its place, which
    is NaN where that is infinite. A place that is NaN is inside only as torch's kernel has it. Half precision is computed in
    float32.
    """
    dtype = image.dtype
    image, grid = (t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in (image, grid))
    sizes = image.shape[3], image.shape[2]
    x, y = (_scaled(grid[..., axis], size, align_corners) for axis, size in enumerate(sizes))

    def inside(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(_padded(place, size, padding, align_corners) for place, size in zip((x, y), sizes, strict=True))

    def pixel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return _pixel(image, x, y)

    if mode == BILINEAR:
        return _bilinear(pixel, *inside(x, y)).to(dtype)
    if mode == NEAREST:
        x, y = inside(x, y)
        return pixel(x.round(), y.round()).to(dtype)
    return _bicubic(lambda x, y: pixel(*inside(x, y)), x, y).to(dtype)


def _scaled(place: torch.Tensor, size: int, align_corners: bool) -> torch.Tensor:
    """Places from -1 to 1 in pixels."""
    return (place + 1) * ((size - 1) / 2) if align_corners else ((place + 1) * size - 1) / 2


def _padded(place: torch.Tensor, size: int, padding: int, align_corners: bool) -> torch.Tensor:
    """Move what lies outside to the border, or mirror it there; NaN becomes 0, as torch's kernel has it."""
    if padding == ZEROS:
        return place
    if padding != BORDER:
        place = _mirrored(place, *((0.0, size - 1.0) if align_corners else (-0.5, float(size))))
    return torch.where(place > 0, place, torch.zeros_like(place)).clamp(max=size - 1)


def _mirrored(place: torch.Tensor, low: float, span: float) -> torch.Tensor:
    """Mirror places at `low` and at `low + span` until they lie between."""
    if span == 0:
        return torch.zeros_like(place)
    way = (place - low).abs()
    rest = torch.fmod(way, 2 * span)
    return torch.where(rest > span, 2 * span - rest, rest) + low


def _pixel(image: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Pixels (N, C, h, w) at whole places (N, h, w), 0 outside."""
    count, channels, height, width = image.shape
    inside = ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1))[:, None]
    zero = torch.zeros_like(x)[:, None]
    column, row = (torch.where(inside, place[:, None], zero).to(torch.int64) for place in (x, y))
    number, channel = torch.arange(count).view(-1, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1)
    return torch.where(inside, image[number, channel, row, column], torch.zeros((), dtype=image.dtype))


def _bilinear(pixel: Pixel, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    left, top = x.floor(), y.floor()
    right, bottom = left + 1, top + 1
    corners = (
        (left, top, (right - x) * (bottom - y)),
        (right, top, (x - left) * (bottom - y)),
        (left, bottom, (right - x) * (y - top)),
        (right, bottom, (x - left) * (y - top)),
    )
    parts = [pixel(column, row) * weight[:, None] for column, row, weight in corners]
    return parts[0] + parts[1] + parts[2] + parts[3]


def _bicubic(pixel: Pixel, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    left, top = x.floor(), y.floor()
    columns, rows = _cubic((x - left)[:, None]), _cubic((y - top)[:, None])
    total = None
    for down, row in enumerate(rows):
        line = [pixel(left + (across - 1), top + (down - 1)) * column for across, column in enumerate(columns)]
        part = (line[0] + line[1] + line[2] + line[3]) * row
        total = part if total is None else total + part
    assert total is not None
    return total


def _cubic(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Weights of the pixels at -1, 0, 1 and 2 for a place at t from 0 to 1."""
    return _outer(t + 1), _inner(t), _inner(1 - t), _outer(2 - t)


def _inner(t: torch.Tensor) -> torch.Tensor:
    return ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1


def _outer(t: torch.Tensor) -> torch.Tensor:
    return ((CUBIC * t - 5 * CUBIC) * t + 8 * CUBIC) * t - 4 * CUBIC
