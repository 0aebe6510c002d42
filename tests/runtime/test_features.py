import importlib.util
import shutil

import pytest

from tvm_balanced.runtime import features


def by_name():
    return {feature.name: feature for feature in features.features()}


def test_what_the_tests_need_is_ready():
    here = by_name()
    ready = ("prune and compile PyTorch models", "compile ONNX models", "save artifacts", "tune", "demo")
    assert [here[name].missing for name in ready] == [()] * len(ready)


@pytest.mark.parametrize(
    ("package", "name", "remedy"),
    [
        ("xgboost", "tune", "pip install 'tvm-balanced[tune]'"),
        ("onnx", "compile ONNX models", "pip install 'tvm-balanced[onnx]'"),
        ("transformers", "folders of Hugging Face transformers", "pip install transformers"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(package, name, remedy, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None if wanted == package else find(wanted))
    feature = by_name()[name]
    assert (feature.missing, feature.remedy) == ((package,), remedy)
    assert by_name()["save artifacts"].missing == ()


def test_missing_programs(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(features, "POCL", tmp_path / "none")
    monkeypatch.setattr(features, "NVIDIA_DRIVER", tmp_path / "none")
    here = by_name()
    assert here["save artifacts"].missing == ("C++ compiler",)
    assert here["artifacts for AArch64"].missing == ("aarch64-linux-gnu-gcc",)
    assert here["run on a GPU"].missing == ("NVIDIA driver",)
    assert here["GPU kernels on the CPU (tests)"].missing == ("PoCL",)


def test_every_extra_that_a_remedy_names_exists():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    named = {f.remedy.split("[")[1].split("]")[0] for f in features.features() if "[" in f.remedy}
    assert named <= set(project["optional-dependencies"])
    assert {"torch", "onnx", "tune", "report", "demo", "cuda", "bench"} <= named
