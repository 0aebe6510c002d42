"""Sampling an image by a grid, beside torch's kernel: a pixel outside multiplies nothing."""

import itertools

import pytest
import torch

from tvm_balanced.frontend.grid_sample import grid_sampler_2d

MODES, PADDINGS = range(3), range(3)  # bilinear, nearest, bicubic; zeros, border, reflection


def drawn(special):
    rng = torch.Generator().manual_seed(1)
    image, grid = torch.randn(2, 3, 5, 7, generator=rng), torch.rand(2, 4, 6, 2, generator=rng) * 3 - 1.5
    if special:
        for tensor, places in ((image, (11, 13, 17)), (grid, (7, 9, 11))):
            for start, (step, value) in enumerate(zip(places, (float("nan"), float("inf"), -float("inf")), strict=True)):
                tensor.view(-1)[start::step] = value
    return image, grid


@pytest.mark.parametrize("special", [False, True])
def test_every_mode_is_as_torchs_kernel_has_it(special):
    image, grid = drawn(special)
    for mode, padding, aligned in itertools.product(MODES, PADDINGS, (False, True)):
        want = torch.ops.aten.grid_sampler_2d(image, grid, mode, padding, aligned)
        got = grid_sampler_2d(image, grid, mode, padding, aligned)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5, equal_nan=True, msg=f"{mode} {padding} {aligned}")


def test_half_precision_is_computed_in_float32():
    image, grid = (tensor.half() for tensor in drawn(False))
    exact = torch.ops.aten.grid_sampler_2d(image.double(), grid.double(), 0, 0, False)
    torch.testing.assert_close(grid_sampler_2d(image, grid, 0, 0, False), exact.half(), rtol=1e-3, atol=1e-4)


def test_an_image_of_one_pixel_is_mirrored_onto_it():
    image, grid = torch.full((1, 1, 1, 1), 3.0), torch.tensor([-5.0, -0.5, 0.5, 7.0]).view(1, 2, 1, 2)
    assert (grid_sampler_2d(image, grid, 1, 2, True) == 3).all()
