"""torch's scan: of any length where it is a linear recurrence, unrolled where it is short, else refused."""

import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend import scans

scan = pytest.importorskip("torch._higher_order_ops.scan").scan
A, B = torch.rand(2, 6, 5), torch.randn(2, 6, 5)


class Scan(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, a, b):
        return scan(self.step, a.new_zeros(a.shape[0], a.shape[2]), (a, b), dim=1)


def linear(state, parts):
    new = parts[1] + state * parts[0]
    return new, new.clone()


def nonlinear(state, parts):
    new = (parts[0] * state + parts[1]).tanh()
    return new, new * 2


@pytest.mark.slow
def test_a_linear_recurrence_of_any_length():
    steps = torch.export.Dim("steps", min=2, max=100)
    module = tb.compile(Scan(linear), (A, B), dynamic_shapes={"a": {1: steps}, "b": {1: steps}}, threads=1)
    for length in (2, 6, 33):
        a, b = torch.rand(2, length, 5), torch.randn(2, length, 5)
        state, states = torch.zeros(2, 5, dtype=torch.float64), []
        for time in range(length):
            state = a[:, time] * state + b[:, time]
            states.append(state)
        last, every = module(a, b)
        torch.testing.assert_close(every, torch.stack(states, 1).float(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(last, state.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_another_one_is_unrolled():
    module = tb.compile(Scan(nonlinear), (A, B), threads=1)
    for got, want in zip(module(A, B), Scan(nonlinear)(A, B), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_unrolled_is_refused(monkeypatch):
    steps = torch.export.Dim("steps", min=2, max=100)
    with pytest.raises(ModelError, match="is a scan of a length that changes, and no linear recurrence: give fixed sizes"):
        tb.compile(Scan(nonlinear), (A, B), dynamic_shapes={"a": {1: steps}, "b": {1: steps}})
    monkeypatch.setattr(scans, "LONGEST", 5)
    with pytest.raises(ModelError, match="is a scan of 6 steps, and no linear recurrence: give at most 5, or write it for all"):
        tb.compile(Scan(nonlinear), (A, B))
