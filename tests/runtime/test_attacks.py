"""Hostile and damaged artifacts: each is refused with its sentence, before its code runs; see support/attacks.py."""

import shutil

import numpy as np
import pytest
from support.attacks import ATTACKS, damages
from support.sample import NIGHTLY

import tvm_balanced as tb
from tvm_balanced.errors import ArtifactError

PLACES = 64 if NIGHTLY else 24  # of a file that are damaged


@pytest.mark.timeout(60)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_gets_its_sentence(attack, artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = shutil.copytree(artifact, tmp_path / "copy.tb")
    attack.change(copy)
    with pytest.raises(ArtifactError, match=attack.said) as error:
        tb.load(copy)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_names_of_attacks_are_different():
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 70


@pytest.mark.slow
def test_each_file_damaged_at_many_places_is_refused_or_gives_the_same_bits(mlp, compiled_mlp, artifact, tmp_path):
    _, (x,) = mlp
    want, rng = compiled_mlp(x).numpy(), np.random.default_rng(0)
    copy = shutil.copytree(artifact, tmp_path / "copy.tb")
    sentences, taken = [], 0
    for path in sorted(p for p in copy.rglob("*") if p.is_file()):
        content = path.read_bytes()
        for damaged in damages(content, rng, PLACES):
            path.unlink()  # the library may be mapped
            path.write_bytes(damaged)
            try:
                (got,) = tb.load(copy)["main"].flat(x.numpy())
            except tb.TvmBalancedError as error:
                sentences.append(str(error))
            else:
                np.testing.assert_array_equal(got, want)
                taken += damaged != content
        path.write_bytes(content)
    assert len(sentences) > PLACES * 5
    assert not any("\n" in sentence for sentence in sentences)
    assert taken <= PLACES * 4  # stored tests are no part of what is loaded; the self-test reads them
