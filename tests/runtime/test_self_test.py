import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.cli.app import run
from tvm_balanced.errors import ArtifactError
from tvm_balanced.runtime.manifest import read_manifest, write_manifest
from tvm_balanced.runtime.stored_test import MOST_OF_INPUT, sample, stored_input, stored_output


@pytest.fixture
def copy(artifact, tmp_path):
    return shutil.copytree(artifact, tmp_path / "copy.tb")


def finding(result, check, ok):
    (text,) = (one.text for one in result.findings if one.check == check and one.ok is ok)
    return text


def test_an_artifact_as_it_was_saved_passes(artifact):
    result = tb.self_test(artifact)
    assert result.ok
    assert [(one.check, one.ok) for one in result.findings] == [
        ("files", True),
        ("machine", True),
        ("main", True),
        ("main", None),
    ]
    assert "times as fast" in finding(result, "main", None)
    assert result.to_json()["findings"][0]["ok"] is True


@pytest.mark.slow
def test_numbers_are_compared_with_the_original_model(mlp, copy):
    """The stored numbers are the model's own, and a module that gives others fails, whatever its checksums say."""
    model, (x,) = mlp
    manifest = read_manifest(copy)
    test = manifest["self_test"]["entry_points"]["main"]
    stored = np.load(copy / test["outputs"][0]["file"])
    # not to the bit: torch sums in another order where its input lies elsewhere in memory
    np.testing.assert_allclose(stored.reshape(5, 40), model(x).detach().numpy(), rtol=0, atol=2**-23)
    other = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 40)).eval()
    tb.prune(other, "2:16")
    tb.compile(other, (x,)).save(copy.with_name("other.tb"))
    elsewhere = read_manifest(copy.with_name("other.tb"))
    for row in (*test["inputs"], *test["outputs"]):
        shutil.copy(copy / row["file"], copy.with_name("other.tb") / row["file"])
        elsewhere["sha256"][row["file"]] = manifest["sha256"][row["file"]]
    write_manifest(copy.with_name("other.tb"), elsewhere)
    result = tb.self_test(copy.with_name("other.tb"))
    assert not result.ok
    assert "output_0 differs from the original model by" in finding(result, "main", False)


@pytest.mark.slow
def test_another_variant_that_is_damaged_is_found(mlp, tmp_path):
    model, (x,) = mlp
    modules = [tb.compile(model, (x,), target=target) for target in ("cpu", "cpu/x86-64-v3")]
    tb.save(modules, tmp_path / "two.tb")
    assert tb.self_test(tmp_path / "two.tb").ok
    library = tmp_path / "two.tb" / modules[1].facts.target_key / "lib.so"
    content = library.read_bytes()
    library.write_bytes(content[:-1])
    result = tb.self_test(tmp_path / "two.tb")
    assert "lib.so was altered" in finding(result, "files", False)


def test_another_machine_is_said(copy):
    write_manifest(copy, read_manifest(copy) | {"features": ["made-up"]})
    assert "needs made-up" in finding(tb.self_test(copy), "machine", False)


def test_a_module_for_another_machine_carries_its_test(mlp, tmp_path, monkeypatch):
    """Its numbers are the original model's, so they are known where it cannot run."""
    model, (x,) = mlp
    target = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "num-cores": 4}
    test = tb.compile(model, (x,), target=target).self_tests["main"]
    assert test.milliseconds is None
    np.testing.assert_array_equal(test.inputs[0].whole(), x.numpy())


def test_the_command(copy, capfd):
    assert run(["self-test", str(copy), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["ok"] is True
    assert run(["self-test", str(copy)]) == 0
    assert "nothing is wrong" in capfd.readouterr().out
    (copy / "lib.so").unlink()
    assert run(["self-test", str(copy)]) == 1
    assert "lacks lib.so" in " ".join(capfd.readouterr().out.split())
    assert run(["self-test", str(copy / "nowhere")]) == 2
    with pytest.raises(ArtifactError, match="no readable manifest"):
        tb.self_test(copy / "nowhere")


@pytest.mark.slow
def test_a_decoder_tests_its_entry_points_and_state(tmp_path):
    class Streaming(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(64, 32)

        def forward(self, x):
            return self.first(x)

        def step(self, x, cache, place):
            return {"y": self.first(x).bfloat16(), "cache": cache + place}

    x, cache = torch.randn(3, 64), torch.zeros(3, 200, 200)
    entry_points = {
        "forward": tb.EntryPoint((x,)),
        "step": tb.EntryPoint((x, cache, torch.tensor(2)), method="step", donate={"cache": "cache"}),
    }
    module = tb.compile(Streaming().eval(), entry_points=entry_points)
    module.save(tmp_path / "m.tb")
    assert [one.check for one in tb.self_test(tmp_path / "m.tb").findings if one.ok] == ["files", "machine", "forward", "step"]
    stored = {row["name"]: row for row in read_manifest(tmp_path / "m.tb")["self_test"]["entry_points"]["step"]["inputs"]}
    assert stored["cache"]["shape"] == [1]  # all zeros


@pytest.mark.parametrize("shape", [(8, 3, 224, 224), (2, 5000), (7,), (), (0, 3), (3, 0), (1, 20000), (50000,)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_few_values_are_stored_and_fill_the_shape(shape, dtype, rng):
    array = np.asarray(rng.integers(0, 100, shape)).astype(dtype)
    stored = stored_input("x", array)
    assert stored.whole().shape == array.shape
    assert stored.whole().dtype == array.dtype
    assert stored.values.size <= MOST_OF_INPUT
    begin = stored.whole().reshape(-1)[: stored.values.size]
    np.testing.assert_array_equal(begin, array.reshape(-1)[: stored.values.size])
    if array.size <= MOST_OF_INPUT:
        np.testing.assert_array_equal(stored.whole(), array)
    assert stored_output("y", array, 0.0).values.size == min(array.size, 4096)


def test_a_sample_reaches_from_the_first_value_to_near_the_last():
    values = sample(np.arange(100_000).reshape(100, -1), 4096)
    assert values[0] == 0
    assert values[-1] >= 100_000 - 25
    assert (np.diff(values) > 20).all()


@pytest.mark.slow
def test_the_size_is_that_of_packed_weights_and_little_more(tmp_path):
    """Also where inputs and outputs are large."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(2), nn.Linear(64 * 64, 512)).eval()
    tb.prune(model, "4:16")
    module = tb.compile(model, (torch.randn(16, 3, 64, 64),), threads=1)
    module.save(tmp_path / "m.tb")
    stored = sum(path.stat().st_size for path in (tmp_path / "m.tb").rglob("*") if path.is_file())
    packed = sum(np.prod(tensor.shape) * np.dtype(str(tensor.dtype)).itemsize for _, tensor in module.weights)
    assert packed > 2e6
    assert packed < stored < 1.05 * packed + 2e6
