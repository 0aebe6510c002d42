import shutil

import pytest

import tvm_balanced as tb
from tvm_balanced.errors import ArtifactError, InputError
from tvm_balanced.runtime.manifest import read_manifest, write_manifest

ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519", reason="cryptography is not installed")
from cryptography.hazmat.primitives import serialization  # noqa: E402


@pytest.fixture(scope="module")
def key():
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture
def signed(compiled_mlp, key, tmp_path):
    compiled_mlp.save(tmp_path / "signed.tb", sign=key)
    return tmp_path / "signed.tb"


def test_a_signed_artifact_is_loaded_by_its_key_in_any_form(mlp, compiled_mlp, signed, key, tmp_path):
    public, raw, pem = key.public_key(), serialization.Encoding.Raw, serialization.Encoding.PEM
    as_bytes = public.public_bytes(raw, serialization.PublicFormat.Raw)
    (tmp_path / "key.pem").write_bytes(public.public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    for form in (public, as_bytes, tmp_path / "key.pem", str(tmp_path / "key.pem")):
        assert tb.load(signed, verify_key=form).facts == compiled_mlp.facts
    assert tb.self_test(signed, verify_key=public).ok
    assert "signed by this key" in tb.self_test(signed, verify_key=public).findings[1].text
    assert tb.load(signed).facts == compiled_mlp.facts


def test_what_was_altered_after_it_was_signed_is_refused_before_its_code_is_opened(signed, key, monkeypatch):
    manifest = read_manifest(signed)
    write_manifest(signed, manifest | {"source": "another"})
    monkeypatch.setattr("tvm_balanced.runtime.load._open_library", lambda _: pytest.fail("the library was opened"))
    with pytest.raises(ArtifactError, match="is not signed by this key, or was altered"):
        tb.load(signed, verify_key=key.public_key())


def test_other_keys_and_no_signature(signed, artifact, key):
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    with pytest.raises(ArtifactError, match="is not signed by this key"):
        tb.load(signed, verify_key=other)
    with pytest.raises(ArtifactError, match="is not signed;"):
        tb.load(artifact, verify_key=other)
    for damaged in (b"", b"a" * 64, b"a" * 5):
        (signed / "manifest.json.sig").write_bytes(damaged)
        with pytest.raises(ArtifactError, match="is not signed by this key"):
            tb.load(signed, verify_key=key.public_key())


@pytest.mark.slow
def test_one_signature_is_of_all_variants(mlp, key, tmp_path):
    model, args = mlp
    modules = [tb.compile(model, args, target=target) for target in ("cpu", "cpu/x86-64-v3")]
    tb.save(modules, tmp_path / "two.tb", sign=key)
    tb.save(list(reversed(modules)), tmp_path / "unsigned.tb")
    assert tb.load(tmp_path / "two.tb", verify_key=key.public_key()).facts == modules[0].facts
    variant = tmp_path / "two.tb" / modules[0].facts.target_key
    write_manifest(variant, read_manifest(variant) | {"source": "another"})
    with pytest.raises(ArtifactError, match="its manifest was altered"):
        tb.load(tmp_path / "two.tb", verify_key=key.public_key())
    shutil.copy(tmp_path / "unsigned.tb" / "manifest.json", tmp_path / "two.tb" / "manifest.json")
    with pytest.raises(ArtifactError, match="is not signed by this key"):
        tb.load(tmp_path / "two.tb", verify_key=key.public_key())


def test_keys_that_are_none(compiled_mlp, signed, key, tmp_path):
    (tmp_path / "key.pem").write_text("no key")
    for given, said in ((3, "int"), (b"short", "5 bytes"), (tmp_path / "key.pem", "no key"), (tmp_path / "none", "No such file")):
        with pytest.raises(InputError, match=f"verify_key is .*{said}.*; give an ed25519 key"):
            tb.load(signed, verify_key=given)
        with pytest.raises(InputError, match=f"sign is .*{said}.*; give an ed25519 key"):
            compiled_mlp.save(tmp_path / "m.tb", sign=given)
    assert not (tmp_path / "m.tb").exists()
    with pytest.raises(InputError, match="verify_key needs verify=True"):
        tb.load(signed, verify=False, verify_key=key.public_key())
