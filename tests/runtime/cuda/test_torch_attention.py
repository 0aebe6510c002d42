"""On the CPU, where torch computes the same; what compiled code makes of it is tested in transform/test_attend_by_library.py."""

import json

import pytest
import torch
import tvm
from support import reference

from tvm_balanced.runtime.cuda import torch_attention, torch_library


def call(q, k, v, mask=None, axes=((0, 1, 2, 3),) * 3, order=(0, 1, 2, 3), causal=False):
    told = json.dumps({"axes": axes, "order": order, "scale": 0.5, "causal": causal})
    given = [tvm.runtime.from_dlpack(x) for x in (q, k, v, *([] if mask is None else [mask]))]
    return torch.from_dlpack(torch_attention.attend("llvm", told, *given))


def expected(q, k, v, mask=0.0):
    q, k, v = (x.double() for x in (q, k, v))
    return torch.softmax(0.5 * q @ k.transpose(-1, -2) + mask, -1) @ v


@pytest.mark.parametrize("masked", [False, True])
def test_against_float64(masked):
    q, k, v = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 4)
    mask = torch.randn(5, 7) if masked else None
    want = expected(q, k, v, mask.double() if masked else 0.0)
    assert reference.relative_error(call(q, k, v, mask), want.numpy()) < 1e-6


def test_booleans_say_what_counts_and_a_causal_mask_is_not_read():
    q, k, v = (torch.randn(2, 3, 5, 8) for _ in range(3))
    counts = torch.ones(5, 5, dtype=torch.bool).tril()
    want = expected(q, k, v, torch.zeros(5, 5).masked_fill(~counts, -torch.inf)).numpy()
    assert reference.relative_error(call(q, k, v, counts), want) < 1e-6
    assert reference.relative_error(call(q, k, v, torch.zeros(5, 5, dtype=torch.bool), causal=True), want) < 1e-6


def test_operands_and_result_lie_as_layers_want_them():
    """Heads behind rows; of the keys, rows come last."""
    q, k, v = torch.randn(2, 5, 4, 8), torch.randn(2, 2, 8, 7), torch.randn(2, 7, 2, 8)
    y = call(q, k, v, axes=((0, 2, 1, 3), (0, 1, 3, 2), (0, 2, 1, 3)), order=(0, 2, 1, 3))
    heads = [x.repeat_interleave(2, 1) for x in (k.transpose(-1, -2), v.transpose(1, 2))]
    assert y.is_contiguous()
    assert reference.relative_error(y, expected(q.transpose(1, 2), *heads).transpose(1, 2).numpy()) < 1e-6


def test_it_is_not_asked_where_it_is_turned_off(monkeypatch):
    assert torch_attention.attention_usable("llvm")
    assert not torch_attention.attention_usable("cuda"), "torch has not used a GPU"
    monkeypatch.setenv(torch_library.SWITCH, torch_library.OWN)
    assert not torch_attention.attention_usable("llvm")
