import copy as copying
import hashlib
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import ArtifactError, InputError
from tvm_balanced.runtime.manifest import read_manifest, write_manifest
from tvm_balanced.runtime.tensors import address_of, view


@pytest.fixture
def copy(artifact, tmp_path):
    return shutil.copytree(artifact, tmp_path / "copy.tb")


def pruned(activation, outputs):
    torch.manual_seed(outputs)
    model = nn.Sequential(nn.Linear(96, 64), activation, nn.Linear(64, outputs)).eval()
    tb.prune(model, "2:16")
    return model


@pytest.mark.slow
def test_an_artifact_that_is_replaced_in_place_is_a_new_one(tmp_path):
    """The loader knows a library by its path; 50 times in place, once with other shapes, and the old modules stay right."""
    x, path = torch.randn(4, 96), tmp_path / "m.tb"
    models = [pruned(activation, outputs) for activation in (nn.ReLU(), nn.Tanh()) for outputs in (48, 40)]
    for i, model in enumerate(models):
        tb.compile(model, (x,), threads=1).save(tmp_path / f"{i}.tb")
    loaded = []
    for turn in range(50):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(tmp_path / f"{turn % 4}.tb", path)
        loaded.append(tb.load(path))
        torch.testing.assert_close(loaded[-1](x), models[turn % 4](x).detach(), rtol=1e-4, atol=1e-5)
    for turn, module in enumerate(loaded):
        torch.testing.assert_close(module(x), models[turn % 4](x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list mappings")
def test_an_artifact_that_is_loaded_again_opens_no_second_library(copy):
    """TVM closes none, and a process may have 65,530 mappings: five for each library."""
    mapped = []
    for _ in range(8):
        tb.load(copy)
        mapped.append(Path("/proc/self/maps").read_text().count("tvm_balanced-"))
    assert mapped[0] > 0
    assert set(mapped) == {mapped[0]}


def test_no_file_is_left_by_a_library(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("tvm_balanced.runtime.load._opened", {})
    (tmp_path / "temporary").mkdir()
    tb.load(copy)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("weights", ["copied", "shared"])
def test_weights_hold_what_their_files_hold(mlp, compiled_mlp, artifact, weights):
    _, (x,) = mlp
    loaded = tb.load(artifact, weights=weights)
    assert torch.equal(loaded(x), compiled_mlp(x))
    for (name, tensor), (other, wanted) in zip(loaded.weights, compiled_mlp.weights, strict=True):
        assert name == other
        assert address_of(tensor) % 64 == 0
        np.testing.assert_array_equal(view(tensor), view(wanted))


def test_files_that_change_later_change_no_answer(mlp, copy):
    _, (x,) = mlp
    loaded = tb.load(copy)
    before = loaded(x)
    for path in copy.rglob("*"):
        if path.is_file():
            path.write_bytes(b"\xff" * 10)  # in place, and shorter
    assert torch.equal(loaded(x), before)


def test_shared_weights_are_pages_of_their_files(copy):
    def mapped():
        return set(re.findall(rf"{re.escape(str(copy))}\S*\.npy", Path("/proc/self/maps").read_text()))

    copied = tb.load(copy)
    assert mapped() == set()
    shared = tb.load(copy, weights="shared")
    assert len(mapped()) == len(shared.weights) == len(copied.weights)


def test_bfloat16_weights(tmp_path):
    model, x = nn.Linear(64, 32).bfloat16().eval(), torch.randn(3, 64).bfloat16()
    compiled = tb.compile(model, (x,))
    compiled.save(tmp_path / "m.tb")
    for weights in ("copied", "shared"):
        assert torch.equal(tb.load(tmp_path / "m.tb", weights=weights)(x), compiled(x))


def test_how_weights_come_is_one_of_two(artifact):
    with pytest.raises(InputError, match=r'weights is 3; give "copied" or "shared"'):
        tb.load(artifact, weights=3)


@pytest.mark.parametrize("weights", ["copied", "shared"])
@pytest.mark.parametrize("damage", ["header", "magic", "version", "dtype", "order", "shape", "more", "empty"])
def test_a_damaged_weight_file_gets_one_sentence(copy, weights, damage):
    manifest = read_manifest(copy)
    row = next(row for row in manifest["weights"] if len(row["shape"]) > 1)
    path = copy / row["file"]
    array, content = np.load(path), bytearray(path.read_bytes())
    if damage in ("dtype", "order", "shape"):
        other = {
            "dtype": array.byteswap().view(array.dtype.newbyteorder()),
            "order": np.asfortranarray(array),
            "shape": array[1:],
        }
        np.save(path, other[damage] if damage != "dtype" or array.itemsize > 1 else array.view(np.int8))
    else:
        content[9 if damage == "version" else 0 if damage == "magic" else 12] ^= 0x51
        if damage == "version":
            content[6] = 9
        path.write_bytes({"more": path.read_bytes() + b"more", "empty": b""}.get(damage, bytes(content)))
    manifest["sha256"][row["file"]] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_manifest(copy, manifest)
    with pytest.raises(ArtifactError, match="is not a whole artifact") as error:
        tb.load(copy, weights=weights)
    assert "\n" not in str(error.value)


def test_a_module_is_saved_as_it_was_loaded_or_not_at_all(mlp, compiled_mlp, copy, tmp_path):
    _, (x,) = mlp
    loaded = tb.load(copy)
    loaded.save(tmp_path / "again.tb")
    assert torch.equal(tb.load(tmp_path / "again.tb")(x), compiled_mlp(x))
    secret = tmp_path / "secret"
    secret.write_text("of another folder")
    (copy / "more").symlink_to(secret)
    loaded.save(tmp_path / "third.tb")
    assert not (tmp_path / "third.tb" / "more").exists()
    weight = next((copy / "weights").iterdir())
    weight.unlink()
    weight.symlink_to(secret)
    with pytest.raises(ArtifactError, match="is not what the module was loaded from any more"):
        loaded.save(tmp_path / "fourth.tb")
    assert not (tmp_path / "fourth.tb").exists()


@pytest.mark.parametrize("threads", [2**31, 0, -1, True, "2"])
def test_a_number_of_threads_that_no_call_has(artifact, compiled_mlp, threads):
    with pytest.raises(InputError, match="threads is"):
        tb.load(artifact, threads=threads)
    with pytest.raises(InputError, match="threads is"):
        compiled_mlp.clone().threads = threads


@pytest.mark.parametrize("use", [pickle.dumps, copying.copy, copying.deepcopy])
def test_a_module_is_not_pickled_or_copied(compiled_mlp, use):
    with pytest.raises(InputError, match=r"cannot be pickled or copied.*clone"):
        use(compiled_mlp)
