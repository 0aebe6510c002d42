import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from support.fake_gpu import with_weights_there

import tvm_balanced as tb
from tvm_balanced.errors import ArtifactError, InputError, TargetError
from tvm_balanced.runtime.manifest import read_manifest, write_manifest
from tvm_balanced.runtime.tensors import view


@pytest.fixture
def copy(artifact, tmp_path):
    return shutil.copytree(artifact, tmp_path / "copy.tb")


def edit(directory, **changes):
    manifest = read_manifest(directory)
    write_manifest(directory, manifest | changes)


def test_load_gives_back_what_was_saved(mlp, compiled_mlp, artifact):
    _, (x,) = mlp
    loaded = tb.load(artifact)
    assert torch.equal(loaded(x), compiled_mlp(x))
    assert str(loaded.report) == str(compiled_mlp.report)
    assert loaded.facts == compiled_mlp.facts


@pytest.mark.slow
def test_weights_on_a_gpu_are_copied_from_there(mlp, compiled_mlp, tmp_path):
    model, (x,) = mlp
    with_weights_there(tb.compile(model, (x,))).save(tmp_path / "there.tb")
    assert torch.equal(tb.load(tmp_path / "there.tb")(x), compiled_mlp(x))


def test_manifest_says_what_it_is(compiled_mlp, artifact):
    manifest = read_manifest(artifact)
    assert manifest["entry_points"]["main"]["inputs"] == [{"name": "input", "shape": [5, 64], "dtype": "float32"}]
    assert manifest["max_error"] == compiled_mlp.facts.max_error < 1e-5
    assert manifest["versions"]["apache-tvm"].startswith("0.27")
    assert {row["layer"] for row in manifest["report"]["layers"]} == {"0", "2"}
    assert set(manifest["sha256"]) == {str(p.relative_to(artifact)) for p in artifact.rglob("*") if p.is_file()} - {
        "manifest.json"
    }


def test_weights_are_memory_mapped_files_beside_the_library(artifact):
    files = {p.name.split(".", 1)[1] for p in (artifact / "weights").iterdir()}
    assert files == {"0.values.npy", "0.indices.npy", "0.bias.npy", "2.values.npy", "2.indices.npy", "2.bias.npy"}
    for path in (artifact / "weights").iterdir():
        assert np.load(path, mmap_mode="r").ctypes.data % 64 == 0


@pytest.mark.slow
def test_another_process_without_torch_gets_the_same(mlp, compiled_mlp, artifact, tmp_path):
    _, (x,) = mlp
    np.save(tmp_path / "x.npy", x.numpy())
    script = f"""
import sys
sys.modules["torch"] = None  # importing torch fails
import numpy as np, tvm_balanced as tb
np.save({str(tmp_path / "y.npy")!r}, tb.load({str(artifact)!r})(np.load({str(tmp_path / "x.npy")!r})))
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), compiled_mlp(x.numpy()))


@pytest.mark.parametrize("file", ["lib.so", "weights"])
@pytest.mark.parametrize("damage", ["altered", "truncated", "missing"])
def test_damage_is_noticed(copy, file, damage):
    path = copy / file if file == "lib.so" else next((copy / file).iterdir())
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[-5] ^= 1
        path.write_bytes(data)
    with pytest.raises(ArtifactError, match="lacks" if damage == "missing" else "checksum"):
        tb.load(copy)


def test_a_truncated_weight_is_noticed_without_checksums_too(copy):
    path = next((copy / "weights").iterdir())
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(ArtifactError, match="not a whole artifact"):
        tb.load(copy, verify=False)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}'])
def test_a_manifest_that_cannot_be_read(copy, content):
    (copy / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest|format"):
        tb.load(copy)


def test_a_place_that_is_no_artifact(tmp_path):
    with pytest.raises(ArtifactError, match="no readable manifest"):
        tb.load(tmp_path)


def test_another_cpu_is_refused_before_any_code_is_loaded(copy):
    edit(copy, features=["avx512f", "amx-tile", "avx512fp16", "made-up"])
    (copy / "lib.so").write_bytes(b"would crash")
    with pytest.raises(ArtifactError, match="made-up, which this CPU does not have"):
        tb.load(copy)


def test_another_architecture_is_refused(copy):
    edit(copy, target=json.dumps({"kind": "llvm", "mtriple": "aarch64-linux-gnu"}))
    with pytest.raises(ArtifactError, match="is for aarch64"):
        tb.load(copy)


def test_another_tvm_is_refused(copy):
    edit(copy, versions={"apache-tvm": "0.26", "apache-tvm-ffi": "0.1.14.post1"})
    with pytest.raises(ArtifactError, match=r"built with apache-tvm 0\.26"):
        tb.load(copy)


def test_a_manifest_without_its_parts(copy):
    whole = read_manifest(copy)
    main = whole["entry_points"]["main"]
    for entry_points in (
        {},
        {"main": {key: value for key, value in main.items() if key != "outputs"}},
        {"main": main | {"weights": [0, 99]}},
    ):
        write_manifest(copy, whole | {"entry_points": entry_points})
        with pytest.raises(ArtifactError, match="not a whole artifact"):
            tb.load(copy)


def test_nothing_is_left_behind_when_saving_fails(compiled_mlp, tmp_path, monkeypatch):
    monkeypatch.setattr("tvm_balanced.runtime.artifact._write_array", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(ArtifactError, match="disk full"):
        compiled_mlp.save(tmp_path / "a.tb")
    assert list(tmp_path.iterdir()) == []


def test_no_compiler(compiled_mlp, tmp_path, monkeypatch):
    monkeypatch.setattr("tvm_balanced.runtime.environment.c_compiler", lambda: None)
    with pytest.raises(ArtifactError, match="no C compiler"):
        compiled_mlp.save(tmp_path / "a.tb")
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_that_fails(compiled_mlp, tmp_path):
    with pytest.raises(ArtifactError, match="cannot link"):
        compiled_mlp.save(tmp_path / "a.tb", cc="/bin/false")
    assert list(tmp_path.iterdir()) == []


def test_a_module_for_another_machine_is_saved_not_called(mlp, tmp_path):
    model, x = mlp[0], torch.randn(64, 64)
    module = tb.compile(model, (x,), target={"kind": "llvm", "mtriple": "aarch64-linux-gnu", "num-cores": 4})
    assert module.facts.max_error is None
    assert {layer.kernel for layer in module.report.layers} <= {"cpu_neon", "cpu_portable"}
    with pytest.raises(TargetError, match="cannot run"):
        module(x)
    with pytest.raises(ArtifactError, match="name a compiler"):
        module.save(tmp_path / "arm.tb")


def test_an_older_cpu_of_this_architecture(mlp, tmp_path):
    model, (x,) = mlp
    module = tb.compile(model, (x,), target="cpu/x86-64-v3")
    assert {layer.kernel for layer in module.report.layers} == {"cpu_avx2"}
    module.save(tmp_path / "v3.tb")
    torch.testing.assert_close(tb.load(tmp_path / "v3.tb")(x), model(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", [{"target": "zzz"}, {"target": None}, {"sha256": None}, {"weights": [{}]}])
def test_a_manifest_with_nonsense(copy, change):
    edit(copy, **change)
    with pytest.raises(ArtifactError):
        tb.load(copy)


def test_a_loaded_module_can_be_saved_again(mlp, compiled_mlp, artifact, tmp_path):
    _, (x,) = mlp
    tb.load(artifact).save(tmp_path / "again.tb")
    assert torch.equal(tb.load(tmp_path / "again.tb")(x), compiled_mlp(x))


def test_a_linker_that_writes_nothing(compiled_mlp, tmp_path):
    with pytest.raises(ArtifactError, match="cannot link"):
        compiled_mlp.save(tmp_path / "a.tb", cc="true")


def test_threads_of_a_loaded_module(artifact):
    assert tb.load(artifact, threads=1).threads == 1


@pytest.fixture(scope="module")
def two_compiled(mlp):
    linear, args = mlp
    model = torch.nn.Sequential(torch.nn.LayerNorm(64), linear)
    return [tb.compile(model, args, target=target) for target in ("cpu", "cpu/x86-64-v3")]


@pytest.fixture
def two(two_compiled, tmp_path):
    tb.save(two_compiled, tmp_path / "two.tb")
    return tmp_path / "two.tb"


def without(monkeypatch, *features):
    monkeypatch.setattr("tvm_balanced.runtime.load.missing_features", lambda needed: sorted(set(features) & set(needed)))


def test_the_first_variant_that_runs_is_loaded(mlp, two, two_compiled, tmp_path, monkeypatch):
    _, (x,) = mlp
    best, older = two_compiled
    loaded = tb.load(two)
    assert loaded.facts == best.facts
    assert torch.equal(loaded(x), best(x))
    without(monkeypatch, max(set(best.facts.features) - set(older.facts.features)))
    library = two / best.facts.target_key / "lib.so"
    library.unlink()  # this process has it mapped: written over, it would end in a bus error
    library.write_bytes(b"would crash")
    loaded = tb.load(two)
    assert loaded.facts == older.facts
    assert torch.equal(loaded(x), older(x))
    loaded.save(tmp_path / "one.tb")
    assert tb.load(tmp_path / "one.tb").facts == older.facts


def test_no_variant_runs_here(two, monkeypatch):
    without(monkeypatch, "avx")
    with pytest.raises(ArtifactError, match=r"no variant of .*two\.tb runs here; the last: .*v3 needs avx, which this CPU"):
        tb.load(two)


def test_a_damaged_variant_is_noticed_not_passed_over(two, two_compiled):
    path = two / two_compiled[0].facts.target_key / "manifest.json"
    path.write_text("{")
    with pytest.raises(ArtifactError, match="its manifest was altered"):
        tb.load(two)


@pytest.mark.parametrize("variants", [[], None, 3, [3], ["../elsewhere"]])
def test_a_list_of_variants_with_nonsense(two, variants):
    edit(two, variants=variants)
    with pytest.raises(ArtifactError):
        tb.load(two)


def test_equal_files_of_variants_are_stored_once(two, two_compiled):
    folders = [two / module.facts.target_key for module in two_compiled]
    first, second = map(read_manifest, folders)
    same = {file for file in first["sha256"] if first["sha256"][file] in second["sha256"].values()}
    assert "lib.so" not in same
    assert len({file for file in same if file.startswith("weights/")}) >= 2  # scale and bias of the layer norm
    assert set(first["shared"]) == same
    stored = [path for path in two.rglob("*") if path.is_file()]
    assert len({path.read_bytes() for path in stored}) == len(stored)
    tb.load(shutil.copytree(two, two.with_name("copy.tb")))  # no links, so that any way of copying keeps it


@pytest.mark.slow
def test_the_size_is_that_of_the_packed_weights(tmp_path):
    """Within 5% and 2 MB, of all variants; what they share is stored once."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(20_000, 256), torch.nn.Linear(256, 512), torch.nn.GELU()).eval()
    tb.prune(model, {"1": "2:16"})
    modules = [tb.compile(model, (torch.arange(8),), target=target) for target in ("cpu", "cpu/x86-64-v3")]
    tb.save(modules, tmp_path / "m.tb")
    packed = {view(tensor).tobytes() for module in modules for _, tensor in module.weights}
    weights, whole = sum(map(len, packed)), sum(path.stat().st_size for path in (tmp_path / "m.tb").rglob("*") if path.is_file())
    assert weights > 20_000_000
    assert weights < whole <= 1.05 * weights + 2_000_000


def test_a_shared_file_that_is_another_is_noticed(two, two_compiled):
    path = next((two / "shared").iterdir())
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtifactError, match="was altered"):
        tb.load(two)
    path.unlink()
    with pytest.raises(ArtifactError, match="lacks shared/"):
        tb.load(two)


def test_a_variant_of_another_artifact_is_noticed(two, two_compiled, compiled_mlp, tmp_path):
    tb.save([compiled_mlp, two_compiled[1]], tmp_path / "other.tb")
    variant = two_compiled[0].facts.target_key
    shutil.rmtree(two / variant)
    shutil.copytree(tmp_path / "other.tb" / variant, two / variant)
    with pytest.raises(ArtifactError, match="its manifest was altered"):
        tb.load(two)


def test_one_module_in_a_list_is_a_plain_artifact(compiled_mlp, tmp_path):
    tb.save([compiled_mlp], tmp_path / "m.tb")
    assert tb.load(tmp_path / "m.tb").facts == compiled_mlp.facts
    assert "variants" not in read_manifest(tmp_path / "m.tb")


@pytest.mark.slow
def test_modules_that_are_no_variants(mlp, two_compiled, tmp_path):
    model, (x,) = mlp
    best = two_compiled[0]
    other = tb.compile(model, (x[:2],), target="cpu/x86-64-v3")
    arm = tb.compile(model, (x,), target={"kind": "llvm", "mtriple": "aarch64-linux-gnu"})
    for modules, said in (
        ([best, best], "two variants are for"),
        ([best, other], "take or give other tensors"),
        ([best, arm], "one architecture"),
        ([], "a compiled module, or a list"),
        ([best, 3], "an entry of modules is 3"),
        (3, "modules is 3"),
    ):
        with pytest.raises(InputError, match=said):
            tb.save(modules, tmp_path / "m.tb")
    assert list(tmp_path.iterdir()) == []
