import copy
import math
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tvm_balanced as tb
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import InputError, ModelError


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 24), nn.Tanh(), nn.Linear(24, 8)).to(dtype)


def train(model, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dtype = model[0].weight.dtype
    for _ in range(steps):
        x = torch.randn(16, 40, generator=generator).to(dtype)
        optimizer.zero_grad()
        (model(x) - x[:, :8]).square().mean().backward()
        optimizer.step()
        yield


def counts(mask, block):
    """How many stay of each block, and how wide it is."""
    return [(int(part.sum(1).min()), int(part.sum(1).max()), part.shape[1]) for part in mask.split(block, dim=1)]


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(["1:4", "2:16", "4:16", "3:24"]),
    st.sampled_from(["cubic", "linear"]),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.sampled_from([0.0, 0.3]),
    st.booleans(),
)
def test_after_every_step_each_block_holds_exactly_its_count(pattern, schedule, dtype, regrow, ties):
    model, pattern = network(dtype), BalancedPattern.parse(pattern)
    if ties:
        with torch.no_grad():
            model[0].weight.copy_(model[0].weight.sign() * 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    pruning = tb.GradualPruning(model, optimizer, pattern, steps=8, warmup=2, every=2, schedule=schedule, regrow=regrow)
    kept_before = pattern.block
    for at, _ in enumerate(train(model, optimizer, 12), start=1):
        way = max(0, min(8, (at - 2) // 2 * 2)) / 8
        share = 1 - (1 - way) ** 3 if schedule == "cubic" else way
        kept = pattern.block - math.floor((pattern.block - pattern.nnz) * share + 1e-9)
        assert pattern.nnz <= kept <= kept_before
        kept_before = kept
        for name, mask in pruning.masks().items():
            weight = model[int(name)].weight
            assert not weight[~mask].any()
            for least, most, width in counts(mask, pattern.block):
                assert least == most == BalancedPattern(kept, pattern.block).kept(width)
        assert bool(pruning.masks()) == (at > 3)
    assert pruning.is_done
    assert kept == pattern.nnz


def test_a_resumed_run_gives_the_same_masks_and_weights():
    def begin(model):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        return optimizer, tb.GradualPruning(model, optimizer, "2:8", steps=12, warmup=1, every=3, regrow=0.2)

    whole = network()
    optimizer, pruning = begin(whole)
    data = train(whole, optimizer, 20)
    for _ in range(7):
        next(data)
    saved = copy.deepcopy({"model": whole.state_dict(), "optimizer": optimizer.state_dict(), "pruning": pruning.state_dict()})
    for _ in data:
        pass
    resumed = network()
    other_optimizer, other = begin(resumed)
    resumed.load_state_dict(saved["model"])
    other_optimizer.load_state_dict(saved["optimizer"])
    other.load_state_dict(saved["pruning"])
    generator = torch.Generator().manual_seed(0)
    for at in range(20):  # the same data, from the same place
        x = torch.randn(16, 40, generator=generator)
        if at >= 7:
            other_optimizer.zero_grad()
            (resumed(x) - x[:, :8]).square().mean().backward()
            other_optimizer.step()
    assert pruning.masks().keys() == other.masks().keys() == {"0", "2"}
    assert all(torch.equal(mask, other.masks()[name]) for name, mask in pruning.masks().items())
    assert torch.equal(whole[0].weight, resumed[0].weight)


def test_only_steps_of_the_optimizer_count():
    """Gradient accumulation calls backward more often, and AMP's scaler skips steps whose gradients overflow."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    pruning = tb.GradualPruning(model, optimizer, "4:16", steps=2, every=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for overflow in (False, True, False):
        for _ in range(3):
            scaler.scale(model(torch.randn(4, 40)).sum()).backward()
        if overflow:
            model[0].weight.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert pruning.step_count == 2
    assert pruning.sparsity == pytest.approx(0.75, abs=0.01)


def test_regrowth_exchanges_weights_and_none_without_it():
    def masks(regrow):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        pruning = tb.GradualPruning(model, optimizer, "4:16", steps=20, every=2, schedule="cubic", regrow=regrow)
        seen = []
        for _ in train(model, optimizer, 20):
            seen += [pruning.masks()["0"]] if pruning.masks() else []
        return seen

    assert not any((later & ~earlier).any() for earlier, later in pairwise(masks(0)))
    exchanged = masks(0.4)
    assert any((later & ~earlier).any() for earlier, later in pairwise(exchanged))


def test_every_layer_can_have_a_target_and_close_lets_go():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruning = tb.GradualPruning(model, optimizer, {"0": "2:8"}, steps=1)
    list(train(model, optimizer, 1))
    assert set(pruning.masks()) == {"0"}
    assert tb.inspect(model.eval(), (torch.randn(4, 40),), threads=1).layers[0].pattern == "2:8"
    pruning.close()
    list(train(model.train(), optimizer, 1))
    assert model[0].weight.all()


@pytest.mark.parametrize("pattern", ["unstructured:0.75", "block4x4:0.5"])
def test_other_structures_reach_their_share(pattern):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruning = tb.GradualPruning(model, optimizer, pattern, steps=4, every=1)
    seen = []
    for _ in train(model, optimizer, 5):
        seen.append(pruning.sparsity)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(float(pattern.split(":")[1]), abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"every": 0}, "every is 0"),
        ({"schedule": "square"}, "give one of cubic, linear"),
        ({"regrow": 1.0}, "regrow is 1.0"),
        ({"warmup": -1}, "warmup is -1; give 0 or more"),
        ({"warmup": "2"}, r"warmup is '2' \(str\); give a whole number, 0 or more"),
    ],
)
def test_what_a_user_can_get_wrong(options, message):
    model = network()
    with pytest.raises(InputError, match=message):
        tb.GradualPruning(model, torch.optim.SGD(model.parameters()), "2:16", **{"steps": 3, **options})


def test_a_state_of_another_model_is_refused():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruning = tb.GradualPruning(model, optimizer, "2:8", steps=1, every=1)
    list(train(model, optimizer, 1))
    other = nn.Sequential(nn.Linear(8, 8))
    with pytest.raises(InputError, match="the state of the same model"):
        tb.GradualPruning(other, torch.optim.SGD(other.parameters()), "2:8", steps=1).load_state_dict(pruning.state_dict())
    with pytest.raises(InputError, match="what state_dict returned"):
        pruning.load_state_dict({"masks": {}})
    with pytest.raises(ModelError, match="nothing to prune"):
        tb.GradualPruning(nn.ReLU(), optimizer, "2:8", steps=1)


@pytest.mark.slow
def test_holding_masks_costs_less_than_a_twentieth_of_a_step():
    """CPU time of holding alone beside that of a step of training; a batch of 256 rows of a layer of 1024x1024."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024))
    optimizer = torch.optim.Adam(model.parameters())
    pruning = tb.GradualPruning(model, optimizer, "4:16", steps=1, every=1)
    x = torch.randn(256, 1024)

    def step():
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    def seconds(call, times):
        """The least of several calls, which what else the machine does disturbs least."""
        call()
        found = []
        for _ in range(times):
            before = time.process_time()
            call()
            found.append(time.process_time() - before)
        return min(found)

    step()
    held = seconds(pruning.step, 20)
    pruning.close()
    assert held < 0.05 * seconds(step, 10)


def _train_in_a_group(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    model = network()
    parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruning = tb.GradualPruning(parallel, optimizer, "2:8", steps=4, every=2, regrow=0.3)
    generator = torch.Generator().manual_seed(rank)  # each process has data of its own
    for _ in range(6):
        optimizer.zero_grad()
        x = torch.randn(16, 40, generator=generator)
        (parallel(x) - x[:, :8]).square().mean().backward()
        optimizer.step()
    torch.save(pruning.masks(), f"{folder}/{rank}.pt")
    tb.prune(network(), "2:8")
    assert "tvm" not in sys.modules  # pruning needs none of it
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_of_ddp_find_the_same_masks(tmp_path):
    source = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_gradual as t; t._train_in_a_group"
    processes = [subprocess.Popen([sys.executable, "-c", f"{source}({rank}, {str(tmp_path)!r})"]) for rank in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first.keys() == second.keys() == {"module.0", "module.2"}
    assert all(torch.equal(mask, second[name]) for name, mask in first.items())
