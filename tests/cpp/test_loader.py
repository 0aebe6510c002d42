"""The C++ loader and its examples, built by CMake: the bits of Python, the sentences of Python, no Python in the process."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from support.attacks import ATTACKS, damages
from torch import nn

import tvm_balanced as tb
from tvm_balanced.cli.app import run as command
from tvm_balanced.runtime.bundle import CPP
from tvm_balanced.runtime.manifest import read_manifest, write_manifest

PLACES = 64 if "TVM_BALANCED_NIGHTLY" in os.environ else 16  # of a file that are damaged, each in a process of its own
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("cpp"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("g++")), reason="cmake and g++ are not installed"),
    pytest.mark.skipif(not Path("/usr/include/nlohmann/json.hpp").exists(), reason="nlohmann-json3-dev is not installed"),
]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder of the examples, built without optimization, which takes half of the time."""
    folder = tmp_path_factory.mktemp("cpp")
    options = ["-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O0", f"-DPython_EXECUTABLE={sys.executable}"]
    for step in (["cmake", "-S", CPP, "-B", folder, *options], ["cmake", "--build", folder, "--parallel", "2"]):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def ran(program, *arguments, code=0):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stderr[-2000:]
    return done.stdout if code == 0 else next(line for line in done.stderr.splitlines() if line.startswith("error: "))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A small BERT of any number of sentences, its artifact and inputs."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=99
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    tb.prune(model, "4:16")
    ids = torch.randint(0, 99, (3, 12))
    names = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    sizes = {name: {0: torch.export.Dim("batch", max=8)} for name in names}
    module = tb.compile(model, (), names, dynamic_shapes=sizes)
    path = tmp_path_factory.mktemp("encoder") / "bert.tb"
    module.save(path)
    return path, module


@pytest.mark.parametrize("shared", [(), ("--shared",)], ids=["copied", "shared"])
def test_an_encoder_gives_the_bits_of_python_without_python(built, encoder, tmp_path, shared):
    path, module = encoder
    arrays = [np.random.default_rng(i).integers(0, 2, (5, 12)) for i in range(2)]
    want = module["main"].flat(*arrays)
    files = []
    for spec, array in zip(module.facts.inputs, arrays, strict=True):
        files.append(tmp_path / f"{spec.name}.npy")
        np.save(files[-1], array)
    printed = ran(built / "run", path, *files, "-o", tmp_path, "--maps", *shared)
    for spec, array in zip(module.facts.outputs, want, strict=True):
        np.testing.assert_array_equal(np.load(tmp_path / f"{spec.name}.npy"), array)
    maps = {line.split()[-1] for line in printed.splitlines() if "/" in line}
    assert any(name.endswith("libtvm_runtime.so") for name in maps)
    assert not [name for name in maps if re.search(r"python|libtvm_compiler|torch", Path(name).name)]
    assert bool([name for name in maps if name.endswith(".npy")]) == bool(shared)
    (tmp_path / "out").mkdir()
    ran(built / "encoder", path, *files, "-o", tmp_path / "out")
    name = module.facts.outputs[0].name
    np.testing.assert_array_equal(np.load(tmp_path / "out" / f"{name}.npy"), want[0])


def test_a_decoder_writes_the_tokens_of_python(built, tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 120}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, num_key_value_heads=2)).eval()
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0
    lm = tb.compile_causal_lm(model, max_length=40, chunk=8)
    lm.save(tmp_path / "lm.tb")
    prompt = np.random.default_rng(0).integers(3, 120, (1, 19))
    want = lm.generate(prompt, max_new_tokens=15)[0, 19:]
    printed = ran(built / "decoder", tmp_path / "lm.tb", 15, *prompt[0])
    assert [int(word) for word in printed.split()] == want.tolist()
    assert len(set(want.tolist())) > 3


def test_a_donated_buffer_holds_the_output(built, tmp_path):
    class Sum(nn.Module):
        def forward(self, x, state):
            return {"y": x.double() + state[0, 0], "state": state + x}

    x, state = torch.randn(3, 64), torch.randn(3, 64)
    tb.compile(Sum(), (x, state), donate={"state": "state"}).save(tmp_path / "m.tb")
    for name, array in (("x", x), ("state", state)):
        np.save(tmp_path / f"{name}.npy", array.numpy())
    ran(built / "run", tmp_path / "m.tb", tmp_path / "x.npy", tmp_path / "state.npy", "-o", tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "state.npy"), (state + x).numpy())
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), (x.double() + state[0, 0]).numpy())


def test_the_self_test_finds_wrong_numbers(built, artifact, tmp_path):
    assert "main: ok" in ran(built / "run", artifact)
    copy = shutil.copytree(artifact, tmp_path / "copy.tb")
    manifest = read_manifest(copy)
    row = next(row for row in manifest["weights"] if row["dtype"] == "float32")
    values = np.load(copy / row["file"])
    np.save(copy / row["file"], values + 1)
    manifest["sha256"][row["file"]] = hashlib.sha256((copy / row["file"]).read_bytes()).hexdigest()
    write_manifest(copy, manifest)
    done = subprocess.run([built / "run", copy], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "main: WRONG: output_0 differs from the original model by" in done.stdout


@pytest.fixture
def keys(tmp_path):
    """Two ed25519 private keys, and the PEM files of their public keys."""
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    made = [ed25519.Ed25519PrivateKey.generate() for _ in range(2)]
    files = [tmp_path / f"{i}.pem" for i in range(2)]
    for key, file in zip(made, files, strict=True):
        file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return made, files


@pytest.mark.skipif(not Path("/usr/include/openssl/evp.h").exists(), reason="libssl-dev is not installed")
def test_a_signature_is_checked_before_anything_else(built, artifact, keys, tmp_path):
    (private, _), (mine, other) = keys
    signed = tmp_path / "signed.tb"
    tb.save(tb.load(artifact), signed, sign=private)
    assert "main: ok" in ran(built / "run", signed, "--verify-key", mine)
    assert "is not signed by this key, or was altered" in ran(built / "run", signed, "--verify-key", other, code=1)
    assert "is not signed; load it without" in ran(built / "run", artifact, "--verify-key", mine, code=1)
    assert "holds no ed25519 public key" in ran(built / "run", signed, "--verify-key", signed / "manifest.json", code=1)
    assert "cannot be read" in ran(built / "run", signed, "--verify-key", tmp_path / "none.pem", code=1)
    manifest = read_manifest(signed)
    write_manifest(signed, manifest | {"threads": 2})  # sealed again, as somebody would who means harm
    assert "is not signed by this key, or was altered" in ran(built / "run", signed, "--verify-key", mine, code=1)
    (signed / "manifest.json.sig").write_bytes(b"short")
    assert "is not signed by this key, or was altered" in ran(built / "run", signed, "--verify-key", mine, code=1)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_gets_its_sentence(built, attack, artifact, tmp_path):
    copy = shutil.copytree(artifact, tmp_path / "copy.tb")
    attack.change(copy)
    assert re.search(attack.said, ran(built / "run", copy, code=1))


def test_what_is_left_to_torch_is_refused_by_name(built, artifact, tmp_path):
    copy = shutil.copytree(artifact, tmp_path / "copy.tb")
    write_manifest(copy, read_manifest(copy) | {"left_to_torch": ["aten.sort.default in layer 'head'"]})
    said = ran(built / "run", copy, code=1)
    assert "leaves aten.sort.default in layer 'head' to PyTorch, which the C++ loader has not; load it in Python" in said


def test_each_file_damaged_is_refused_or_gives_the_same_bits(built, mlp, compiled_mlp, artifact, tmp_path):
    _, (x,) = mlp
    np.save(tmp_path / "x.npy", x.numpy())
    want, rng = compiled_mlp(x).numpy(), np.random.default_rng(1)
    copy = shutil.copytree(artifact, tmp_path / "copy.tb")
    for path in sorted(p for p in copy.rglob("*") if p.is_file()):
        content = path.read_bytes()
        for damaged in damages(content, rng, PLACES):
            path.write_bytes(damaged)
            (tmp_path / "output_0.npy").unlink(missing_ok=True)
            arguments = [built / "run", copy, tmp_path / "x.npy", "-o", tmp_path]
            done = subprocess.run(arguments, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                np.testing.assert_array_equal(np.load(tmp_path / "output_0.npy"), want)
            else:
                assert (done.returncode, "error: " in done.stderr) == (1, True), done
        path.write_bytes(content)


def test_inputs_that_do_not_fit_get_one_sentence(built, encoder, tmp_path):
    path, _ = encoder
    for array, said in (
        (np.zeros((3, 12), np.float32), "input_ids is float32; the model was compiled for input_ids: int64"),
        (np.zeros((3, 11), np.int64), "has shape [3, 11]; the model was compiled for"),
        (np.zeros((9, 12), np.int64), "is 9; the model was compiled for"),
    ):
        np.save(tmp_path / "x.npy", array)
        assert said in ran(built / "run", path, tmp_path / "x.npy", tmp_path / "x.npy", code=1)
    assert "1 inputs were given; the entry point takes 2" in ran(built / "run", path, tmp_path / "x.npy", code=1)
    assert 'entry point "no" is unknown; the module has main' in ran(
        built / "run", path, "--entry", "no", tmp_path / "x.npy", code=1
    )


@pytest.fixture
def quick(tmp_path):
    """A compiler that optimizes nothing, whatever it is told, which takes half of the time."""
    compiler = tmp_path / "quick"
    compiler.write_text('#!/bin/sh\nexec g++ "$@" -O0\n')
    compiler.chmod(0o755)
    return str(compiler)


def test_a_bundle_runs_where_it_is_moved(artifact, quick, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(["package", str(artifact), "-o", "bundle", "--cxx", quick, "--json"]) == 0, capfd.readouterr().err
    said = json.loads(capfd.readouterr().out)
    assert {"libc.so.6", "libstdc++.so.6"} <= set(said["needs"])
    assert not any("python" in name or "tvm" in name for name in said["needs"])
    assert said["total"] == sum(path.stat().st_size for path in Path("bundle").rglob("*") if path.is_file())
    shutil.move("bundle", tmp_path / "moved")
    printed = subprocess.run(["ldd", tmp_path / "moved" / "bin" / "run"], capture_output=True, text=True, check=True).stdout
    assert printed.count(str(tmp_path / "moved")) == 2
    assert "not found" not in printed
    out = subprocess.run(
        [tmp_path / "moved" / "bin" / "run", "moved/model.tb"], env={}, capture_output=True, text=True, check=True
    )
    assert "main: ok" in out.stdout
    assert command(["package", str(artifact), "-o", "again", "--cxx", "no-compiler"]) == 1
    assert "no C++ compiler no-compiler was found" in capfd.readouterr().err
    Path("broken.cc").write_text("int main() { return not_there; }\n")
    assert command(["package", str(artifact), "-o", "again", "--program", "broken.cc"]) == 1
    assert "cannot compile" in capfd.readouterr().err
    assert not Path("again").exists()
