"""UpdateInPlace: which updates of a donated input are in place, what the caller sees, and that no other input changes."""

import numpy as np
import pytest
import torch
import tvm
from torch import nn

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.runtime.host import host_target
from tvm_balanced.transform.update_in_place import UpdateInPlace

ROWS, LENGTH, WIDTH = 3, 9, 16


class Cache(nn.Module):
    """Writes to a cache, and returns what it reads of it afterwards."""

    def __init__(self, write):
        super().__init__()
        self.write = write

    def forward(self, cache, places, new):
        cache = self.write(cache, places, new)
        return {"cache": cache, "sum": cache.sum(1)}


def rows(cache, places, new):
    return cache.index_copy(1, places, new)


def elements(cache, places, new):
    return cache.scatter(1, places[None, :, None].expand(ROWS, -1, WIDTH).flip(0), new)


def points(cache, places, new):
    return cache.index_put((torch.arange(ROWS)[:, None], places), new)


def part(cache, places, new):
    return torch.slice_scatter(cache, new, 1, 2, 8, 2)


def twice(cache, places, new):
    return cache.index_copy(1, places, new).index_copy(2, torch.tensor([3, 0]), new.new_zeros(ROWS, LENGTH, 2))


def read_before(cache, places, new):
    return cache.index_copy(1, places, new + cache.mean())


def doubled(cache, places, new):
    return cache.index_copy(1, places, new) * 2


def arguments():
    generator = torch.Generator().manual_seed(0)
    cache, new = (torch.randn(ROWS, n, WIDTH, generator=generator) for n in (LENGTH, 3))
    return cache, torch.tensor([4, 0, 8]), new


def in_place(mod):
    with host_target():
        found = UpdateInPlace({"main": {0: 0}})(tvm.relax.transform.CanonicalizeBindings()(mod))
    return found.script().count("call_tir_inplace")


@pytest.mark.grid
@pytest.mark.parametrize(
    ("write", "calls"),
    [(rows, 1), (elements, 1), (points, 1), (part, 1), (twice, 2), (read_before, 0), (doubled, 0)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_written_in_place_is_what_torch_writes(write, calls):
    model, args = Cache(write).eval(), arguments()
    imported = import_model(model, args, donate={"cache": "cache"})
    assert in_place(imported.mod) == calls
    module = tb.compile(model, args, donate={"cache": "cache"}, threads=1, logs=False)
    want, (cache, places, new) = model(*args), [a.clone() for a in args]
    address, version = cache.data_ptr(), cache._version
    got = module(cache, places, new)
    for name in ("cache", "sum"):
        torch.testing.assert_close(got[name], want[name])
    assert got["cache"].data_ptr() == address
    assert cache._version > version  # so autograd knows
    torch.testing.assert_close(cache, want["cache"])
    torch.testing.assert_close(new, args[2])


@pytest.fixture(scope="module")
def module():
    model = Cache(rows).eval()
    return model, tb.compile(model, arguments(), donate={"cache": "cache"}, threads=1, logs=False)


def test_buffers_of_any_layout_hold_the_result(module):
    model, module = module
    cache, places, new = arguments()
    want = model(cache, places, new)["cache"]
    strided = torch.zeros(WIDTH, ROWS, LENGTH).permute(1, 2, 0)
    strided.copy_(cache)
    shifted = torch.zeros(cache.numel() + 1)[1:].view_as(cache)  # not at a multiple of 64 bytes
    shifted.copy_(cache)
    array = cache.numpy().copy()
    for buffer, others in [(strided, (places, new)), (shifted, (places, new)), (array, (places.numpy(), new.numpy()))]:
        module(buffer, *others)
        np.testing.assert_allclose(buffer, want)


def test_memory_that_another_input_shares_is_read_as_it_was(module):
    model, module = module
    cache, places, _ = arguments()
    want = model(cache, places, cache[:, 1:4].clone())
    whole = torch.empty(ROWS * LENGTH * WIDTH + 16)
    cache_ = whole[: cache.numel()].view_as(cache)
    cache_.copy_(cache)
    new = cache_.as_strided((ROWS, 3, WIDTH), (3 * WIDTH, WIDTH, 1))  # contiguous and aligned, inside the cache
    want = model(cache_.clone(), places, new.clone())
    got = module(cache_, places, new)
    torch.testing.assert_close(got["cache"], want["cache"])


@pytest.mark.slow
def test_profiling_changes_no_buffer(module):
    _, module = module
    cache, places, new = arguments()
    before = cache.clone()
    module.profile(cache, places, new, rounds=2)
    torch.testing.assert_close(cache, before)
