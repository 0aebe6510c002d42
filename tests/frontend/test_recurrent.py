import copy

import pytest
import torch
from torch import nn
from torch._decomp import decomposition_table
from torch.export import Dim
from torch.utils import _pytree as pytree

import tvm_balanced as tb
from tvm_balanced.compiler.layers import planned
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.module import import_module
from tvm_balanced.frontend.pruning.magnitude import keep_mask
from tvm_balanced.frontend.recurrent import RECURRENT, any_length
from tvm_balanced.runtime.host import host_target
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.tuning.tasks import tasks_of

WIDTH, STEPS, BATCH = 32, 5, 2


def pruned(layer):
    """The layer at 2:16, in eval mode."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.ndim == 2:
                parameter.mul_(keep_mask(parameter, BalancedPattern(2, 16)))
    return layer.eval()


def exact(layer, *args):
    """What the layer gives in float64."""
    wide = copy.deepcopy(layer).double()
    with torch.no_grad():
        return pytree.tree_leaves(wide(*pytree.tree_map(lambda t: t.double(), args)))


def differences(module, layer, *args):
    """The largest difference of each output to float64."""
    results = pytree.tree_leaves(module(*pytree.tree_leaves(args)))
    wanted = exact(layer, *args)
    assert [tuple(y.shape) for y in results] == [tuple(y.shape) for y in wanted]
    return [float((y.double() - want).abs().max()) for y, want in zip(results, wanted, strict=True)]


LAYERS = {
    "lstm": lambda: nn.LSTM(WIDTH, 40),
    "lstm, 2 layers, both ways": lambda: nn.LSTM(WIDTH, 24, 2, bidirectional=True, batch_first=True),
    "lstm, projected, 2 layers, both ways": lambda: nn.LSTM(WIDTH, 40, 2, proj_size=16, bidirectional=True),
    "lstm, projected, no bias": lambda: nn.LSTM(WIDTH, 40, proj_size=24, bias=False, batch_first=True),
    "gru": lambda: nn.GRU(WIDTH, 33, batch_first=True),
    "gru, 2 layers, both ways, no bias": lambda: nn.GRU(WIDTH, 24, 2, bidirectional=True, bias=False),
    "rnn, tanh, both ways": lambda: nn.RNN(WIDTH, 24, bidirectional=True),
    "rnn, relu, batch first": lambda: nn.RNN(WIDTH, 24, 2, nonlinearity="relu", batch_first=True),
}


def states(layer, batch):
    """Initial states of a layer."""
    number = layer.num_layers * (2 if layer.bidirectional else 1)
    h = torch.randn(number, batch, layer.proj_size or layer.hidden_size)
    return (h, torch.randn(number, batch, layer.hidden_size)) if isinstance(layer, nn.LSTM) else h


def inputs(layer, steps, batch):
    return torch.randn((batch, steps, WIDTH) if layer.batch_first else (steps, batch, WIDTH))


# Those for the night have nothing that others here, or the models of other tests, have not.
AT_NIGHT = ("lstm", "gru", "lstm, projected, 2 layers, both ways")


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.nightly] * (name in AT_NIGHT)) for name in LAYERS])
def test_any_length_and_batch_with_states_and_a_fixed_length_without(name):
    layer = pruned(LAYERS[name]())
    steps, batch = Dim("steps"), Dim("batch")
    x, initial = inputs(layer, STEPS, BATCH), states(layer, BATCH)
    sizes = ({0: batch, 1: steps} if layer.batch_first else {0: steps, 1: batch}), pytree.tree_map(lambda _: {1: batch}, initial)
    points = {"dynamic": tb.EntryPoint((x, initial), dynamic_shapes=sizes), "static": tb.EntryPoint((x,))}
    module = tb.compile(layer, entry_points=points, threads=1)
    assert all(row.verdict == "sparse" for row in module.report.layers)
    for length, rows in ((1, 1), (2, 3), (STEPS, BATCH), (50, 1)):
        assert max(differences(module["dynamic"], layer, inputs(layer, length, rows), states(layer, rows))) < 2e-6
    assert max(differences(module["static"], layer, inputs(layer, STEPS, BATCH))) < 2e-6


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_half_precision_is_no_worse_than_in_torch(cell, dtype):
    layer = pruned(cell(WIDTH, 35)).to(dtype)
    module = tb.compile(layer, (torch.randn(STEPS, BATCH, WIDTH).to(dtype),), dynamic_shapes=({0: Dim("steps")},), threads=1)
    x = torch.randn(60, BATCH, WIDTH).to(dtype)
    theirs = zip(pytree.tree_leaves(layer(x)), exact(layer, x), strict=True)
    worst = max(float((y.detach().double() - want).abs().max()) for y, want in theirs)
    assert max(differences(module, layer, x)) < 1.2 * worst


@pytest.mark.slow
def test_double_precision_is_left_to_tvm_inside_the_loop():
    layer = pruned(nn.LSTM(16, 8, proj_size=4).double())
    sizes = {0: Dim("steps"), 1: Dim("batch")}
    module = tb.compile(layer, (torch.randn(3, 2, 16).double(),), dynamic_shapes=(sizes,), threads=1)
    assert {row.kernel for row in module.report.layers} == {"tvm"}
    assert max(differences(module, layer, torch.randn(9, 4, 16).double())) < 1e-14


@pytest.mark.slow
def test_without_a_batch():
    layer = pruned(nn.GRU(WIDTH, 16))
    module = tb.compile(layer, (torch.randn(STEPS, WIDTH),), dynamic_shapes=({0: Dim("steps")},), threads=1)
    assert max(differences(module, layer, torch.randn(11, WIDTH))) < 2e-6


class Cells(nn.Module):
    """A cell of each kind, which have their input and state in common."""

    def __init__(self):
        super().__init__()
        self.lstm, self.gru, self.rnn = (cell(WIDTH, 16) for cell in (nn.LSTMCell, nn.GRUCell, nn.RNNCell))

    def forward(self, x, h, c):
        return {"lstm": self.lstm(x, (h, c)), "gru": self.gru(x, h), "rnn": self.rnn(x, h)}


@pytest.fixture(scope="module")
def cells():
    """Cells, their inputs, and the module of all of them."""
    layers = pruned(Cells())
    given = torch.randn(BATCH, WIDTH), torch.randn(BATCH, 16), torch.randn(BATCH, 16)
    return layers, given, tb.compile(layers, given, threads=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_cells_are_dense_layers(name, cells):
    layers, (x, h, c), module = cells
    rows = {row.layer for row in module.report.layers if row.layer.startswith(f"{name}.")}
    assert rows == {f"{name}.weight_ih", f"{name}.weight_hh"}
    wanted = exact(getattr(layers, name), x, (h, c) if name == "lstm" else h)
    for got, want in zip(pytree.tree_leaves(module(x, h, c)[name]), wanted, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=0, atol=2e-6)


def test_the_module_does_not_grow_with_the_length():
    def size(steps):
        main = import_module(layer, (torch.randn(steps, 1, WIDTH),)).mod["main"]
        return len(main.body.blocks[0].bindings)

    layer = pruned(nn.LSTM(WIDTH, 16, 2, bidirectional=True))
    assert size(3) == size(300)


def test_dropout_while_training_is_refused():
    layer = nn.LSTM(8, 8, 2, dropout=0.5)
    with any_length():
        program = torch.export.export(layer.train(), (torch.randn(3, 1, 8),))
    with pytest.raises(ModelError, match="eval mode"):
        tb.compile(program)


def test_torch_is_left_as_it_was():
    def tables():
        return [(dict(op.py_kernels), decomposition_table[op]) for op in RECURRENT]

    before = tables()
    with pytest.raises(ZeroDivisionError), any_length():
        raise ZeroDivisionError
    assert tables() == before


class Tagger(nn.Module):
    """A recurrent net on a frame at a time, or on whole sequences, whose state goes in and out."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(WIDTH, 48, 2), nn.Linear(48, 16)

    def forward(self, x, h, c):
        y, (h, c) = self.rnn(x, (h, c))
        return {"tags": self.out(y), "h": h, "c": c}


@pytest.mark.slow
def test_streaming_gives_what_the_whole_sequence_gives(tmp_path):
    model = pruned(Tagger())
    h, c = torch.zeros(2, 1, 48), torch.zeros(2, 1, 48)
    frames = torch.randn(12, 1, WIDTH)
    step = tb.EntryPoint((frames[:1], h, c), donate={"h": "h", "c": "c"})
    whole = tb.EntryPoint((frames[:4], h, c), dynamic_shapes=({0: Dim("steps")}, None, None))
    compiled = tb.compile(model, entry_points={"step": step, "whole": whole}, threads=1)
    compiled.save(tmp_path / "tagger")
    for module in (compiled, tb.load(tmp_path / "tagger")):
        h.zero_()
        c.zero_()
        tags = [module["step"](frame[None], h, c)["tags"] for frame in frames]
        got = module["whole"](frames, torch.zeros_like(h), torch.zeros_like(c))
        torch.testing.assert_close(torch.cat(tags), got["tags"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close((h, c), (got["h"], got["c"]), rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            torch.testing.assert_close(got["tags"], model(frames, h * 0, c * 0)["tags"], rtol=1e-4, atol=1e-5)
    names = {name.rpartition(".")[0] for name, _ in compiled.weights}
    assert {f"rnn.weight_{of}_l{layer}" for of in ("ih", "hh") for layer in (0, 1)} <= names


def test_a_report_has_a_row_for_each_weight():
    layer = pruned(nn.LSTM(WIDTH, 48, proj_size=16))
    report = tb.inspect(layer, (torch.randn(STEPS, BATCH, WIDTH),), threads=1)
    rows = {row.layer: (row.m, row.calls, row.n, row.k) for row in report.layers}
    assert rows == {
        "weight_ih_l0": (STEPS * BATCH, 1, 192, 32),
        "weight_hh_l0": (BATCH, STEPS, 192, 16),
        "weight_hr_l0": (BATCH, STEPS, 16, 48),
    }
    assert {row.sparsity for row in report.layers} == {0.875}


def test_a_kernel_of_every_step_is_tuned_as_often_as_it_runs():
    imported = import_module(pruned(nn.LSTM(WIDTH, 48)), (torch.randn(STEPS, BATCH, WIDTH),))
    tasks = tasks_of(planned(imported, KernelSelector.of(host_target(), 1))[1])
    assert [(task.layers, task.workload.m, task.calls) for task in tasks] == [
        (("weight_ih_l0",), STEPS * BATCH, 1),
        (("weight_hh_l0",), BATCH, STEPS),
    ]


class Packs(nn.Module):
    """What torch cannot export: both directions over packed sequences; y is zero behind each end."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, (h, _) = self.layer(packed)
        return nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0], h


class Padded(nn.Module):
    """The same as the refusal advises: a layer for each direction, the steps of one gathered in reverse up to the lengths."""

    def __init__(self, layer):
        super().__init__()
        self.ways = nn.ModuleList(nn.LSTM(WIDTH, WIDTH, batch_first=True) for _ in range(2))
        weights = layer.state_dict()
        for way, suffix in zip(self.ways, ("", "_reverse"), strict=True):
            way.load_state_dict({name: weights[name + suffix] for name in way.state_dict()})

    def forward(self, x, lengths):
        steps = torch.arange(x.shape[1])[None, :, None]
        last = lengths[:, None, None] - 1
        mirrored = torch.where(steps <= last, last - steps, steps).expand(-1, -1, WIDTH)
        forth, back = self.ways[0](x)[0], self.ways[1](x.gather(1, mirrored))[0]
        h = [y.gather(1, last.expand(-1, 1, WIDTH))[:, 0] for y in (forth, back)]
        return torch.cat([forth, back.gather(1, mirrored)], -1) * (steps <= last), torch.stack(h)


@pytest.mark.slow
def test_what_is_advised_for_packed_sequences_gives_the_same():
    layer = nn.LSTM(WIDTH, WIDTH, batch_first=True, bidirectional=True).eval()
    x, lengths = torch.randn(3, STEPS, WIDTH), torch.tensor([STEPS, 2, 4])
    with pytest.raises(ModelError, match=r"it packs sequences by their lengths.*for both directions use a layer for each"):
        tb.compile(Packs(layer), (x, lengths))
    sizes = {0: Dim("batch", min=1, max=9), 1: Dim("steps", min=2, max=99)}
    module = tb.compile(Padded(layer).eval(), (x, lengths), dynamic_shapes=(sizes, {0: sizes[0]}), threads=1)
    for count, steps in ((3, STEPS), (5, 11)):
        x = torch.randn(count, steps, WIDTH)
        lengths = torch.randint(1, steps, (count,)).index_fill(0, torch.tensor([1]), steps)
        want = Packs(copy.deepcopy(layer).double())(x.double(), lengths)
        for got, wanted in zip(module(x, lengths), want, strict=True):
            torch.testing.assert_close(got, wanted.float(), rtol=1e-5, atol=1e-5)
