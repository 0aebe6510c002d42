import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.runtime import threads

pytestmark = pytest.mark.xdist_group("concurrency")  # many threads, which other tests should not wait for


def pruned(width, outputs):
    torch.manual_seed(outputs)
    model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)).eval()
    tb.prune(model, "2:16")
    return model


@pytest.fixture(scope="module")
def large():
    """A model whose calls are worth several threads, its input and result, and the module for two threads."""
    x = torch.randn(64, 512)
    module = tb.compile(pruned(512, 512), (x,), threads=2)
    return x, module(x), module


def number_of_threads():
    return len(list(Path("/proc/self/task").iterdir()))


def at_once(count, work):
    """Call `work` with 0 to count - 1 in as many threads, and raise what any of them raises."""
    barrier = threading.Barrier(count)

    def start(i):
        barrier.wait()
        return work(i)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))


def test_saves_of_one_module_at_once(large, tmp_path):
    x, want, module = large
    at_once(4, lambda i: module.save(tmp_path / f"{i}.tb"))
    for i in range(4):
        assert torch.equal(tb.load(tmp_path / f"{i}.tb")(x), want)


def test_compiles_at_once():
    models, x = [pruned(64, outputs) for outputs in (16, 32, 48)], torch.randn(4, 64)
    for model, module in zip(models, at_once(3, lambda i: tb.compile(models[i], (x,), threads=1)), strict=True):
        torch.testing.assert_close(module(x), model(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])])
def test_calls_saves_and_loads_from_many_threads(tmp_path, rounds):
    """32 threads with 200 calls each, of one module and its clones, with saves and loads between them."""
    x = torch.randn(4, 96)
    modules = [tb.compile(pruned(96, outputs), (x,), threads=threads) for outputs, threads in ((48, 1), (40, 2))]
    want = [module(x) for module in modules]
    modules[0].save(tmp_path / "first.tb")

    def work(turn, i):
        own = modules[i % 2].clone() if i % 3 == 0 else modules[i % 2]
        for call in range(200):
            assert torch.equal(own(x), want[i % 2])
            if call % 100 == i:
                path = tmp_path / f"{turn}.{i}.{call}.tb"
                own.save(path)
                own = tb.load(path)
            elif call % 100 == 50 + i:
                assert torch.equal(tb.load(tmp_path / "first.tb", threads=2)(x), want[0])

    for turn in range(rounds):
        at_once(32, partial(work, turn))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux lists them")
@pytest.mark.parametrize("count", [1, 2])
def test_a_thread_for_each_call_does_not_pile_up_threads(large, count):
    x, want, module = large
    module = module.clone()
    module.threads = count
    before, results = number_of_threads(), []
    for _ in range(100):
        thread = threading.Thread(target=lambda: results.append(torch.equal(module(x), want)))
        thread.start()
        thread.join()
    assert all(results)
    assert len(results) == 100
    assert number_of_threads() - before <= 2 * (os.cpu_count() or 1) + 2  # each was one or two before


def test_a_thread_that_stays_gets_workers_of_its_own(large, monkeypatch):
    x, want, module = large
    monkeypatch.setattr(threads._process, "pools", 0)

    def call():
        for _ in range(20):
            assert torch.equal(module(x), want)
        return threads._pool.own

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(call).result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("count", [1, 2])
def test_a_call_after_a_fork_works(large, count):
    x, want, module = large
    module = module.clone()
    module.threads = count
    assert torch.equal(module(x), want)
    child = os.fork()
    if child == 0:
        os._exit(0 if all(torch.equal(module(x), want) for _ in range(3)) else 1)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 0
    assert torch.equal(module(x), want)
