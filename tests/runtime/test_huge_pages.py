import ctypes
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from torch import nn

import tvm_balanced as tb
from tvm_balanced.runtime import huge_pages
from tvm_balanced.runtime.huge_pages import PAGE, collapse
from tvm_balanced.runtime.tensors import address_of, view


def huge_kib(tensor):
    """Return the KiB in huge pages of the mappings that hold a tensor."""
    first, found = address_of(tensor), 0
    last, inside = first + tensor.numel() * tensor.dtype.itemsize, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            low, high = (int(bound, 16) for bound in bounds.groups())
            inside = low < last and high > first
        elif inside and line.startswith("AnonHugePages:"):
            found += int(line.split()[1])
    return found


def of_bytes(nbytes, rng):
    return tvm.runtime.tensor(rng.integers(0, 256, nbytes, np.uint8))


@pytest.fixture
def has_huge_pages(rng):
    if not collapse([of_bytes(8 * PAGE, rng)]):
        pytest.skip("this system gives no huge pages")


def test_whole_pages_are_moved_and_keep_what_they_hold(has_huge_pages, rng):
    tensor = of_bytes(8 * PAGE, rng)
    before = view(tensor).copy()
    assert collapse([tensor]) in (7, 8)
    assert huge_kib(tensor) >= 7 * PAGE >> 10
    np.testing.assert_array_equal(view(tensor), before)


def test_small_tensors_stay_where_they_are(rng):
    assert collapse([of_bytes(PAGE // 2, rng), of_bytes(64, rng)]) == 0


def test_nothing_changes_where_the_system_has_none(monkeypatch, rng):
    class Refuses:
        def __init__(self, _):
            self.madvise = lambda *_: -1

    tensor = of_bytes(4 * PAGE, rng)
    monkeypatch.setattr(ctypes, "CDLL", Refuses)
    assert collapse([tensor]) == 0
    monkeypatch.setattr(huge_pages.sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: 1 / 0)
    assert collapse([tensor]) == 0


def test_a_large_tensor_of_a_file_is_copied_once_there_are_huge_pages(has_huge_pages, monkeypatch, tmp_path, rng):
    np.save(tmp_path / "large.npy", rng.integers(0, 256, 8 * PAGE, np.uint8))
    mapped = [("large", tvm.runtime.from_dlpack(np.load(tmp_path / "large.npy", mmap_mode="c"))), ("small", of_bytes(64, rng))]
    found = dict(huge_pages.in_huge_pages(mapped))
    assert huge_kib(found["large"]) >= 7 * PAGE >> 10
    np.testing.assert_array_equal(view(found["large"]), view(mapped[0][1]))
    assert found["small"] is mapped[1][1]
    monkeypatch.setattr(huge_pages, "collapse", lambda _: 0)
    assert dict(huge_pages.in_huge_pages(mapped))["large"] is mapped[0][1]


def test_weights_of_a_compiled_module_lie_in_them(has_huge_pages, tmp_path):
    model, x = nn.Linear(4096, 4096).eval(), torch.randn(1, 4096)
    tb.prune(model, "4:16")
    compiled = tb.compile(model, (x,))
    compiled.save(tmp_path / "model.tb")
    for module in (compiled, tb.load(tmp_path / "model.tb")):
        values = max((tensor for _, tensor in module.weights), key=lambda tensor: tensor.numel())
        assert huge_kib(values) >= 6 * PAGE >> 10
        torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-4)
