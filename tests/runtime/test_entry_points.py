"""Modules with several entry points, donated inputs, clones, and artifacts of the format before."""

import json
import shutil
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
import tvm
from support.decoder import VOCABULARY, decoder, entry_points, state
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import ArtifactError, InputError
from tvm_balanced.runtime.function import Function
from tvm_balanced.runtime.manifest import read_manifest

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="module")
def model():
    return decoder()


@pytest.fixture(scope="module")
def compiled(model):
    return tb.compile(model, entry_points=entry_points())


@pytest.fixture(scope="module")
def saved(compiled, tmp_path_factory):
    path = tmp_path_factory.mktemp("entry points") / "decoder.tb"
    compiled.save(path)
    return path


@pytest.fixture
def prompt():
    return torch.randint(VOCABULARY, (1, 7), generator=torch.Generator().manual_seed(1))


def generate(prefill, decode, prompt, steps=4):
    """Return the logits of a prompt and of the tokens that follow, by functions that return logits and write the caches."""
    keys, values = state()
    logits = [prefill(prompt, torch.tensor(0), keys, values)["logits"]]
    for step in range(steps):
        token = logits[-1][:, -1:].argmax(-1)
        logits.append(decode(token, torch.tensor(prompt.shape[1] + step), keys, values)["logits"])
    return [*logits, keys, values]


def in_place(function):
    """Let a function of the model write its caches, as a compiled module's does."""

    def call(token, position, keys, values):
        with torch.no_grad():
            result = function(token, position, keys, values)
        keys.copy_(result["keys"])
        values.copy_(result["values"])
        return result

    return call


def test_prefill_and_decode_agree_with_the_model_step_by_step(model, compiled, prompt):
    want = generate(in_place(model), in_place(model.decode), prompt)
    got = generate(compiled["prefill"], compiled["decode"], prompt)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert compiled.facts.max_error < 1e-5


def test_calling_the_module_runs_the_first(compiled, prompt):
    torch.testing.assert_close(
        compiled(prompt, torch.tensor(0), *state()), compiled["prefill"](prompt, torch.tensor(0), *state()), rtol=0, atol=0
    )


def test_a_function_says_what_it_is(compiled):
    decode = compiled["decode"]
    assert isinstance(decode, Function)
    assert [spec.name for spec in decode.inputs] == ["token", "position", "keys", "values"]
    assert [spec.name for spec in decode.outputs] == ["logits", "keys", "values", "next"]
    assert repr(decode).startswith("<Function decode: token: int64[1, 1], position: int64[], ")
    assert "; decode: token: int64[1, 1], " in repr(compiled)
    with pytest.raises(InputError, match='"generate" is unknown; the module has prefill, decode'):
        compiled["generate"]


@pytest.mark.slow
def test_entry_points_share_each_weight(model, compiled):
    alone = tb.compile(model, entry_points={"decode": entry_points()["decode"]})
    assert len(alone.weights) == len(compiled.weights)
    assert [(name, t.shape) for name, t in alone.weights] == [(name, t.shape) for name, t in compiled.weights]
    used = [spec.weights for spec in compiled.facts.entry_points.values()]
    assert used[0] == used[1] == tuple(range(len(compiled.weights)))


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)

    def forward(self, x):
        return self.second(self.first(x))

    def half(self, x):
        return self.second(x)


@pytest.mark.slow
def test_an_entry_point_takes_only_the_weights_that_it_uses():
    module = halves()
    names = {entry: {module.weights[i][0] for i in spec.weights} for entry, spec in module.facts.entry_points.items()}
    assert {name.split(".")[0] for name in names["whole"]} == {"first", "second"}
    assert {name.split(".")[0] for name in names["half"]} == {"second"}


@pytest.mark.slow
def test_every_entry_point_is_checked_against_the_model(monkeypatch, model):
    asked = []
    call = Function.flat
    monkeypatch.setattr(Function, "flat", lambda self, *args: asked.append(self.name) or call(self, *args))
    given = entry_points()
    tb.compile(model, entry_points=given)
    assert list(dict.fromkeys(asked)) == ["prefill", "decode"]
    for entry in given.values():
        assert not any(cache.any() for cache in entry.args[2:])  # the examples stay as they were, though they are donated


def test_entry_points_are_saved_and_loaded(compiled, saved, prompt):
    loaded = tb.load(saved)
    assert loaded.facts == compiled.facts
    got, want = (generate(module["prefill"], module["decode"], prompt) for module in (loaded, compiled))
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert read_manifest(saved)["entry_points"]["decode"]["donate"] == {"keys": "keys", "values": "values"}
    loaded.save(saved.parent / "again.tb")
    assert tb.load(saved.parent / "again.tb").facts == compiled.facts


def halves(target=None, names=("whole", "half")):
    model, x = Halves().eval(), torch.ones(4, 64)
    given = {"whole": tb.EntryPoint((x,)), "half": tb.EntryPoint((x,), method="half")}
    return tb.compile(model, entry_points={name: given[name] for name in names}, target=target)


@pytest.mark.slow
def test_variants_keep_their_entry_points(tmp_path):
    older, oldest = halves("cpu/x86-64-v3"), halves("cpu/x86-64-v2")
    tb.save([older, oldest], tmp_path / "m.tb")
    assert list(tb.load(tmp_path / "m.tb").facts.entry_points) == ["whole", "half"]
    for names in (("whole",), ("half", "whole")):
        with pytest.raises(InputError, match="take or give other tensors"):
            tb.save([older, halves("cpu/x86-64-v2", names)], tmp_path / "other.tb")


@pytest.mark.slow
def test_each_entry_point_can_be_profiled(compiled, prompt):
    keys, values = state()
    profile = compiled["decode"].profile(prompt[:, :1], torch.tensor(0), keys, values, rounds=2)
    assert {row.name for row in profile.rows} >= {"q", "k", "v", "out", "head"}
    assert not keys.any()


class Accumulate(nn.Module):
    """A state that is added to, one that is given back as it is, and two that change places."""

    def forward(self, x, total, count):
        return {"y": x + total, "total": total + x, "count": count + 1}

    def swap(self, x, total, count):
        return {"old": total, "total": count, "count": total, "y": x * 2}


@pytest.fixture(scope="module")
def accumulate():
    args, donate = (torch.ones(4, 32), torch.zeros(4, 32), torch.zeros(4, 32)), {"total": "total", "count": "count"}
    return tb.compile(
        Accumulate(),
        entry_points={
            "add": tb.EntryPoint(args, donate=donate),
            "swap": tb.EntryPoint(args, method="swap", donate=donate),
        },
    )


def unaligned(shape):
    return torch.zeros(int(np.prod(shape)) + 1)[1:].view(shape)


BUFFERS = {
    "torch": lambda: torch.zeros(4, 32),
    "torch, unaligned": lambda: unaligned((4, 32)),
    "torch, transposed": lambda: torch.zeros(32, 4).T,
    "torch, every other": lambda: torch.zeros(4, 64)[:, ::2],
    "torch, a parameter": lambda: nn.Parameter(torch.zeros(4, 32)),
    "numpy": lambda: np.zeros((4, 32), np.float32),
    "numpy, unaligned": lambda: unaligned((4, 32)).numpy(),
    "numpy, transposed": lambda: np.zeros((32, 4), np.float32).T,
    "numpy, every other": lambda: np.zeros((4, 64), np.float32)[:, ::2],
}


@pytest.mark.parametrize("buffer", BUFFERS.values(), ids=BUFFERS.keys())
def test_a_donated_buffer_holds_the_output(accumulate, buffer):
    total, count = buffer(), buffer()
    x = torch.ones(4, 32) if isinstance(total, torch.Tensor) else np.ones((4, 32), np.float32)
    for step in (1, 2, 3):
        result = accumulate(x, total, count)
        leaves = list(result.values())
        assert leaves[1] is total
        assert leaves[2] is count
        assert np.all(np.asarray(leaves[0]) == step)
        for held in (total, count):
            assert np.all(np.asarray(held.detach() if isinstance(held, torch.Tensor) else held) == step)


@pytest.mark.parametrize("as_torch", [True, False])
def test_states_that_change_places_and_one_that_is_returned_as_it_was(accumulate, as_torch):
    x, total, count = torch.ones(4, 32), torch.full((4, 32), 3.0), torch.full((4, 32), 5.0)
    given = (x, total, count) if as_torch else tuple(t.numpy() for t in (x, total, count))
    result = accumulate["swap"](*given)
    old, *_ = result.values()
    assert np.all(np.asarray(old) == 3)
    assert (total == 5).all()
    assert (count == 3).all()


@pytest.mark.slow
def test_the_state_of_an_lstm_is_donated():
    torch.manual_seed(0)
    model = nn.LSTM(32, 32, batch_first=True).eval()
    x, steps = torch.randn(1, 3, 32), torch.randn(4, 1, 3, 32)
    h, c = torch.zeros(1, 1, 32), torch.zeros(1, 1, 32)
    module = tb.compile(model, (x, (h, c)), donate={"hx_0": "output_1_0", "hx_1": "output_1_1"})
    want = (h.clone(), c.clone())
    for step in steps:
        y, state = module(step, h, c)
        expected, want = model(step, want)
        assert state[0] is h
        assert state[1] is c
        torch.testing.assert_close((y, (h, c)), (expected, want), rtol=1e-4, atol=1e-5)


def test_a_donated_tensor_of_tvm_holds_the_output(accumulate):
    x, total, count = (tvm.runtime.tensor(np.zeros((4, 32), np.float32)) for _ in range(3))
    accumulate(tvm.runtime.tensor(np.ones((4, 32), np.float32)), total, count)
    assert (total.numpy() == 1).all()
    assert (x.numpy() == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_a_state_without_rows_are_donated(dtype):
    batch = torch.export.Dim("batch")
    args = tuple(torch.ones(3, 8, dtype=dtype) for _ in range(3))
    donate = {"total": "total"}
    module = tb.compile(Accumulate(), args, dynamic_shapes=({0: batch}, {0: batch}, {0: batch}), donate=donate)
    for rows in (0, 5):
        x, total, count = (torch.ones(rows, 8, dtype=dtype) for _ in range(3))
        assert module(x, total, count)["total"] is total
        assert (total == 2).all()
    array = np.ones((5, 8), np.float16 if dtype == torch.float16 else ml_dtypes.bfloat16)
    module(array.copy(), array, array.copy())
    assert (array == 2).all()


def read_only():
    array = np.zeros((4, 32), np.float32)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("total", "message"),
    [
        (read_only(), "total is donated, .* a read-only array; give a copy"),
        (torch.zeros(1, 32).expand(4, 32), "total is donated, .* an expanded or a sparse tensor"),
    ],
)
def test_a_buffer_that_cannot_be_written_gets_one_sentence(accumulate, total, message):
    with pytest.raises(InputError, match=message):
        accumulate(torch.ones(4, 32), total, torch.zeros(4, 32))


def test_one_buffer_cannot_hold_two_outputs(accumulate):
    total = torch.zeros(4, 32)
    with pytest.raises(InputError, match="total and count are donated and are one buffer"):
        accumulate(torch.ones(4, 32), total, total)


def test_a_donation_ends_up_in_the_artifact(accumulate, tmp_path):
    accumulate.save(tmp_path / "m.tb")
    total, count = torch.zeros(4, 32), torch.zeros(4, 32)
    tb.load(tmp_path / "m.tb")(torch.ones(4, 32), total, count)
    assert (total == 1).all()


def addresses(module):
    return [tensor.data_ptr() for _, tensor in module.weights]


@pytest.mark.slow
def test_a_clone_has_the_same_weights_and_settings_of_its_own(compiled, saved, prompt):
    for module in (compiled, tb.load(saved)):
        clone = module.clone()
        assert addresses(clone) == addresses(module)
        clone.threads = 1
        module.threads = 2
        assert (clone.threads, module.threads) == (1, 2)
        got, want = (generate(m["prefill"], m["decode"], prompt) for m in (clone, module))
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
        clone.save(saved.parent / f"clone of {id(module)}.tb")


def test_large_weights_are_not_copied_for_a_clone(monkeypatch, mlp):
    """A module copies once those whose pages cannot become huge ones."""
    moved = []
    monkeypatch.setattr("tvm_balanced.runtime.compiled_module.in_huge_pages", lambda w: moved.append(w) or w)
    module = tb.compile(*mlp)
    assert len(moved) == 1
    assert addresses(module.clone()) == addresses(module)
    assert len(moved) == 1


def test_a_clone_does_not_wait_for_the_module(compiled, prompt):
    clone, done = compiled.clone(), threading.Event()

    def call():
        clone(prompt, torch.tensor(0), *state())
        done.set()

    with compiled.lock:  # as while a call of it runs
        thread = threading.Thread(target=call)
        thread.start()
        assert done.wait(60)
    thread.join()


def test_clones_give_the_same_from_several_threads(compiled, prompt):
    want, results = generate(compiled["prefill"], compiled["decode"], prompt), {}

    def serve(number, module):
        for _ in range(10):
            results[number] = generate(module["prefill"], module["decode"], prompt)

    threads = [threading.Thread(target=serve, args=(i, compiled.clone())) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(3):
        torch.testing.assert_close(results[number], want, rtol=0, atol=0)


def test_a_module_for_another_machine_can_be_cloned_not_called(mlp):
    model, (x,) = mlp
    clone = tb.compile(model, (x,), target={"kind": "llvm", "mtriple": "aarch64-linux-gnu"}).clone()
    with pytest.raises(tb.TvmBalancedError, match="which this machine cannot run"):
        clone(x)


@pytest.fixture
def old(tmp_path):
    """An artifact of format 2, of baseline x86-64-v2, and what it gave when it was written."""
    path = shutil.copytree(DATA / "format2.tb", tmp_path / "format2.tb")
    return path, np.load(DATA / "format2.npz")


def test_an_artifact_of_format_2_gives_the_same_bits(old):
    path, arrays = old
    module = load_or_skip(path)
    result = module(arrays["x"], arrays["scale"])
    np.testing.assert_array_equal(result["y"], arrays["y"])
    np.testing.assert_array_equal(result["h"], arrays["h"])
    assert list(module.facts.entry_points) == ["main"]
    assert module.facts.main.donate == {}
    assert len(module.facts.main.ranges) == 1
    assert set(module(torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["scale"]))) == {"y", "h"}
    assert [row.layer for row in module.report.layers] == ["sparse", "dense"]
    with pytest.raises(InputError, match="at most 8"):
        module(np.zeros((9, 64), np.float32), np.zeros((9, 1), np.float32))


def load_or_skip(path):
    """Load the stored artifact; skip where its library cannot run here."""
    try:
        return tb.load(path)
    except ArtifactError as error:
        if "was built with" in str(error) or "this machine is" in str(error):
            pytest.skip(str(error))
        raise


def test_an_artifact_of_format_3_gives_the_same_bits_in_the_same_nesting(tmp_path):
    path = shutil.copytree(DATA / "format3.tb", tmp_path / "format3.tb")
    arrays = np.load(DATA / "format3.npz")
    module = load_or_skip(path)
    x, h, c = (arrays[name] for name in ("x", "h", "c"))
    for result in (module(x, (h, c)), module(x, h, c), module(x, state_0=h, state_1=c)):
        np.testing.assert_array_equal(result["y"], arrays["y"])
        np.testing.assert_array_equal(result["state"][0], arrays["new_h"])
        np.testing.assert_array_equal(result["state"][1], arrays["new_c"])
    assert isinstance(module(*map(torch.from_numpy, (x, h, c)))["state"], tuple)
    module.save(tmp_path / "again.tb")
    assert tb.load(tmp_path / "again.tb").facts == module.facts


def test_an_artifact_of_format_4_gives_the_same_bits(tmp_path):
    path = shutil.copytree(DATA / "format4.tb", tmp_path / "format4.tb")
    arrays = np.load(DATA / "format4.npz")
    module = load_or_skip(path)
    np.testing.assert_array_equal(module["forward"](arrays["x"])["y"], arrays["y"])
    state = np.zeros((3, 32), np.float32)
    for _ in range(2):
        result = module["step"](arrays["x"], state)
    np.testing.assert_array_equal(result["y"], arrays["y2"])
    np.testing.assert_array_equal(state, arrays["state"])
    module.save(tmp_path / "again.tb")
    assert tb.load(tmp_path / "again.tb").facts == module.facts
    for name in ("a", "b"):  # variants up to format 4 had no checksums of their manifests, and shared no folder
        shutil.copytree(path, tmp_path / "variants.tb" / name)
    (tmp_path / "variants.tb" / "manifest.json").write_text(json.dumps({"format": 4, "variants": ["a", "b"]}))
    np.testing.assert_array_equal(tb.load(tmp_path / "variants.tb")(arrays["x"])["y"], arrays["y"])


def test_an_artifact_of_format_2_is_saved_in_the_present_format(old, tmp_path):
    path, _ = old
    module = load_or_skip(path)
    module.save(tmp_path / "again.tb")
    assert json.loads((tmp_path / "again.tb" / "manifest.json").read_text())["format"] == 5
    assert tb.load(tmp_path / "again.tb").facts == module.facts
