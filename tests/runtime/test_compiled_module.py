import copy
import ctypes
import functools
import os
import pickle
import threading
import time

import numpy as np
import pytest
import torch
import tvm
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import InputError
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.runtime.tensors import aligned
from tvm_balanced.runtime.threads import use_threads


def test_torch_in_torch_out_numpy_in_numpy_out(mlp, compiled_mlp):
    model, (x,) = mlp
    want = model(x).detach()
    got = compiled_mlp(x)
    assert isinstance(got, torch.Tensor)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    array = compiled_mlp(x.numpy())
    assert isinstance(array, np.ndarray)
    np.testing.assert_allclose(array, want.numpy(), rtol=1e-4, atol=1e-5)


def test_a_module_says_what_it_is(compiled_mlp, artifact):
    text = repr(compiled_mlp)
    start, _, target = text.rpartition("; ")
    assert start == "<CompiledModule: input: float32[5, 64] -> output_0: float32[5, 40]; 2 sparse, 0 dense layers"
    assert target == f"{target_key(host_target())}, threads={compiled_mlp.threads}>"
    assert repr(tb.load(artifact)) == text


def unaligned(x):
    return torch.cat([torch.zeros(1), x.flatten()])[1:].view_as(x)


@pytest.mark.parametrize(
    "view",
    [
        unaligned,
        lambda x: x.T.contiguous().T,
        lambda x: torch.stack([x, x], -1)[..., 0],
        lambda x: x.clone().requires_grad_(),
        lambda x: nn.Parameter(x.clone()),
        lambda x: x[:1].expand(5, 64),
        lambda x: torch.cat([x, x])[1:6],
    ],
    ids=["unaligned", "transposed", "strided", "requires grad", "parameter", "expanded", "slice"],
)
def test_any_view_gives_the_right_answer(mlp, compiled_mlp, view):
    model, (x,) = mlp
    given = view(x)
    torch.testing.assert_close(compiled_mlp(given), model(given).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: np.concatenate([[0], x.ravel()]).astype(np.float32)[1:].reshape(x.shape),
        np.asfortranarray,
        lambda x: np.stack([x, x], -1)[..., 0],
        lambda x: np.broadcast_to(x[:1], x.shape),
    ],
    ids=["unaligned", "fortran", "strided", "read-only"],
)
def test_any_numpy_view_gives_the_right_answer(mlp, compiled_mlp, view):
    model, (x,) = mlp
    given = view(x.numpy())
    want = model(torch.from_numpy(np.array(given))).detach().numpy()
    np.testing.assert_allclose(compiled_mlp(given), want, rtol=1e-4, atol=1e-5)


def test_aligned_memory_is_not_copied():
    array = aligned(np.arange(1000, dtype=np.float32))
    assert array.ctypes.data % 64 == 0
    assert aligned(array) is array
    shifted = array[1:]
    copy = aligned(shifted)
    assert copy.ctypes.data % 64 == 0
    np.testing.assert_array_equal(copy, shifted)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((torch.ones(5, 63),), {}, r"shape \(5, 63\)"),
        ((torch.ones(4, 64),), {}, r"shape \(4, 64\)"),
        ((torch.ones(64),), {}, "shape"),
        ((torch.ones(5, 64, dtype=torch.float64),), {}, "is float64"),
        ((np.ones((5, 64), np.int32),), {}, "is int32"),
        ((torch.ones(5, 64).to("meta"),), {}, "is on meta"),
        (([1.0],), {}, "is list; give a torch tensor"),
        ((), {}, "is missing"),
        ((torch.ones(5, 64), torch.ones(5, 64)), {}, "2 inputs were given"),
        ((), {"y": torch.ones(5, 64)}, '"y" is unknown'),
        ((torch.ones(5, 64),), {"input": torch.ones(5, 64)}, "given twice"),
    ],
)
def test_wrong_inputs_get_one_sentence(compiled_mlp, args, kwargs, message):
    with pytest.raises(InputError, match=message) as error:
        compiled_mlp(*args, **kwargs)
    assert "\n" not in str(error.value)


def test_symbolic_dimensions_must_agree():
    class Model(nn.Module):
        def forward(self, x, y):
            return x + y

    batch = torch.export.Dim("batch")
    module = tb.compile(Model(), (torch.ones(3, 4), torch.ones(3, 4)), dynamic_shapes=({0: batch}, {0: batch}))
    assert module(torch.ones(7, 4), torch.ones(7, 4)).shape == (7, 4)
    with pytest.raises(InputError, match="shape"):
        module(torch.ones(7, 4), torch.ones(6, 4))


@pytest.mark.parametrize(("batch", "fits"), [(3, False), (4, True), (16, True), (17, False)])
def test_sizes_out_of_the_range_of_a_dynamic_dimension_are_refused(batch, fits):
    module = dynamic(torch.export.Dim("batch", min=4, max=16))
    if fits:
        assert module(torch.ones(batch, 4)).shape == (batch, 4)
        return
    with pytest.raises(InputError, match=f"is {batch} in input .*; the model was compiled for 4 to 16") as error:
        module(torch.ones(batch, 4))
    assert "\n" not in str(error.value)


@functools.cache
def dynamic(batch):
    return tb.compile(nn.ReLU(), (torch.ones(5, 4),), dynamic_shapes=({0: batch},))


def test_a_dynamic_dimension_without_limits_takes_any_size():
    module = dynamic(torch.export.Dim("batch"))
    assert module.facts.main.ranges == {}
    for batch in (0, 1, 1000):
        assert module(torch.ones(batch, 4)).shape == (batch, 4)


def test_results_of_two_calls_do_not_share_memory(mlp, compiled_mlp):
    _, (x,) = mlp
    first = compiled_mlp(x)
    before = first.clone()
    compiled_mlp(x * 2)
    assert torch.equal(first, before)


@pytest.mark.parametrize("how", [pickle.dumps, copy.deepcopy])
def test_a_module_is_neither_pickled_nor_copied(mlp, compiled_mlp, how):
    with pytest.raises(InputError, match="cannot be pickled or copied; give other processes the path that save wrote"):
        how(compiled_mlp)
    _, (x,) = mlp
    assert torch.equal(compiled_mlp.clone()(x), compiled_mlp(x))


def test_several_threads_may_call(mlp, compiled_mlp):
    model, (x,) = mlp
    inputs = [x * i for i in range(8)]
    results = [None] * 8

    def call(i):
        for _ in range(20):
            results[i] = compiled_mlp(inputs[i])

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i in range(8):
        torch.testing.assert_close(results[i], model(inputs[i]).detach(), rtol=1e-4, atol=1e-5)


def test_threads_hold_for_every_calling_thread(mlp):
    """TVM has a pool for each thread that calls."""
    model, (x,) = mlp
    module = tb.compile(model, (x,), threads=1)
    counts = []

    def call():
        module(x)
        counts.append(tvm.get_global_func("runtime.NumThreads")())

    call()
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert counts == [1, 1]


def in_new_thread(call):
    """Run `call` in a thread of its own, for TVM has a pool for each; return its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")


@two_cores
def test_the_caller_does_not_share_a_core_with_its_worker():
    allowed = os.sched_getaffinity(0)
    worker = sorted(allowed)[1]

    def call():
        use_threads(2)
        os.sched_setaffinity(0, {worker})
        os.sched_setaffinity(0, allowed)
        use_threads(2)
        moved = ctypes.CDLL(None).sched_getcpu() != worker, os.sched_getaffinity(0) == allowed
        os.sched_setaffinity(0, {worker})  # nowhere to go: it stays
        use_threads(2)
        return (*moved, os.sched_getaffinity(0) == {worker})

    assert in_new_thread(call) == (True, True, True)


@two_cores
@pytest.mark.parametrize("counts", [(1,), (2,), (1, 2, 1, 2), (2, 3, 2)])
def test_the_callers_affinity_stays_as_it_was(counts):
    allowed = os.sched_getaffinity(0)
    last = {max(allowed)}

    def call():
        seen = []
        for count in counts:
            use_threads(count)
            seen.append(os.sched_getaffinity(0) == allowed)
        os.sched_setaffinity(0, last)
        for count in counts:
            use_threads(3 - count if count < 3 else count)  # another count, so that the pool is configured again
            seen.append(os.sched_getaffinity(0) == last)
        return all(seen)

    assert in_new_thread(call)


@two_cores
def test_the_number_of_threads_may_grow():
    count = tvm.get_global_func("runtime.NumThreads")

    def call():
        seen = []
        for threads in (1, 2, 1, 2):
            use_threads(threads)
            seen.append(count())
        return seen

    assert in_new_thread(call) == [1, 2, 1, 2]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core has no worker")
def test_threads_sleep_soon_after_a_call(mlp):
    model, (x,) = mlp
    module = tb.compile(model, (x,), threads=2)
    module(x)
    time.sleep(0.01)
    start = time.process_time()
    time.sleep(0.1)
    assert time.process_time() - start < 0.05  # TVM's own workers look for work for 0.2 s


def test_threads_can_be_chosen(mlp):
    model, (x,) = mlp
    module = tb.compile(model, (x,), threads=1)
    assert module.threads == 1
    one = module(x)
    module.threads = 2
    torch.testing.assert_close(module(x), one)
    with pytest.raises(InputError, match="1 or more"):
        module.threads = 0


def test_non_finite_activations(rng):
    """NaN comes through; what a pruned weight meets is skipped; an infinity gives an infinity or NaN, never a number."""
    weight = np.zeros((16, 32), np.float32)
    weight[:, ::8] = rng.standard_normal((16, 4))
    model = nn.Linear(32, 16, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(weight))
    x = torch.ones(3, 32)
    module = tb.compile(model, (x,))
    x[0, 8], x[1, 8], x[2, 9] = float("inf"), float("nan"), float("inf")
    got = module(x)
    assert torch.isinf(got[0]).all() or torch.isnan(got[0]).any()
    assert torch.isnan(got[1]).all()
    finite = torch.isfinite(got)
    dense = torch.nn.functional.linear(x, model.weight)
    assert torch.isnan(dense[2]).all()  # 0 * inf
    assert (finite[2] | torch.isnan(got[2])).all()
