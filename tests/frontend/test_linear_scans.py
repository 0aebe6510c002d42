"""Loops over time in Python that torch.export unrolls: a linear recurrence becomes one function again."""

import copy

import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.frontend.decompositions import decompositions
from tvm_balanced.frontend.linear_scans import ALL_STATES, STATES_READ, roll

T = 7


class Selective(nn.Module):
    """The loop of transformers' Mamba."""

    def forward(self, a, b, c):
        state, outputs = torch.zeros_like(a[:, :, 0]), []
        for time in range(a.shape[2]):
            state = a[:, :, time] * state + b[:, :, time]
            outputs.append(torch.matmul(state, c[:, time, :].unsqueeze(-1))[:, :, 0])
        return torch.stack(outputs, dim=-1), state


class Average(nn.Module):
    """States over the first dimension, which are all given, and read once more."""

    def forward(self, x, decay):
        state, states = x[0], []
        for time in range(x.shape[0]):
            state = x[time] + state * decay[time]
            states.append(state)
        return torch.stack(states), states[2] * 2


class Gapped(nn.Module):
    """Every other step alone: no whole recurrence."""

    def forward(self, a, b):
        state = a[0]
        for time in range(0, a.shape[0], 2):
            state = a[time] * state + b[time]
        return state


class Nonlinear(nn.Module):
    def forward(self, a, b):
        state = a[0]
        for time in range(a.shape[0]):
            state = (a[time] * state + b[time]).tanh()
        return state


SELECTIVE = torch.rand(2, 3, T, 4), torch.randn(2, 3, T, 4), torch.randn(2, T, 4)
OVER_FIRST = torch.randn(T, 2, 5), torch.rand(T, 2, 5)


def rolled(model, args, **options):
    program = torch.export.export(model, args, **options).run_decompositions(decompositions())
    count = roll(program)
    return program, count


@pytest.mark.parametrize(
    ("model", "args", "target"),
    [(Selective(), SELECTIVE, STATES_READ), (Average(), OVER_FIRST, ALL_STATES)],
    ids=["read", "states"],
)
def test_one_operator_stands_for_all_steps_and_gives_the_same(model, args, target):
    program, count = rolled(model, args)
    assert count == 1
    assert [node.target for node in program.graph.nodes if "linear_scan" in str(node.target)] == [target]
    assert not [node for node in program.graph.nodes if "mul.Tensor" in str(node.target) and node.name != "mul_7"]
    inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
    assert len(inputs) == len(args)
    for got, want in zip(program.graph_module(*args), model(*args), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("model", [Gapped(), Nonlinear()], ids=["gapped", "nonlinear"])
def test_what_is_no_whole_recurrence_stays_as_it_is(model):
    program, count = rolled(model, OVER_FIRST)
    assert count == 0
    assert "linear_scan" not in str(program.graph)


def test_another_order_of_a_vector_is_no_reading():
    class Crossed(nn.Module):
        def forward(self, a, b, c):
            state, outputs = torch.zeros_like(a[:, :, 0]), []
            for time in range(T):
                state = a[:, :, time] * state + b[:, :, time]
                outputs.append(torch.matmul(state, c[:, T - 1 - time, :].unsqueeze(-1))[:, :, 0])
            return torch.stack(outputs, dim=-1)

    program, count = rolled(Crossed(), SELECTIVE)
    assert count == 1
    assert "linear_scan_read" not in str(program.graph)
    torch.testing.assert_close(program.graph_module(*SELECTIVE)[0], Crossed()(*SELECTIVE), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_selective_scan_compiles_to_one_function_of_any_batch():
    batch = torch.export.Dim("batch", min=1, max=8)
    module = tb.compile(Selective(), SELECTIVE, dynamic_shapes=({0: batch},) * 3, threads=1)
    rows = module.profile(*SELECTIVE, rounds=1).rows
    assert "linear_scan" in {row.name for row in rows}
    assert len(rows) < 4
    for rows in (1, 2, 5):
        args = torch.rand(rows, 3, T, 4), torch.randn(rows, 3, T, 4), torch.randn(rows, T, 4)
        want = Selective()(*(one.double() for one in args))
        for got, wanted in zip(module(*args), want, strict=True):
            torch.testing.assert_close(got, wanted.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_mamba_has_a_scan_a_layer():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "use_cache": False}
    model, ids = transformers.MambaForCausalLM(transformers.MambaConfig(**sizes)).eval(), torch.randint(0, 50, (2, 9))
    module = tb.compile(model, (), {"input_ids": ids}, threads=1)
    calls = [row.name for row in module.profile(input_ids=ids, rounds=1).rows for _ in range(row.calls)]
    assert calls.count("linear_scan") == 2
    assert len(calls) < 60
    with torch.no_grad():
        want = copy.deepcopy(model).double()(ids).logits
    torch.testing.assert_close(module(input_ids=ids).logits, want.float(), rtol=1e-4, atol=1e-4)
