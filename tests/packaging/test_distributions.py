"""The wheel and the source distribution, in environments where nothing else is installed. `make wheel-test` runs these: they
install packages, which takes minutes and a package index.
"""

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        "TVM_BALANCED_INSTALL" not in os.environ, reason="installs packages, which takes minutes: make wheel-test"
    ),
]


def python_of(folder):
    """Return the Python of a new, empty environment."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def install(python, *what):
    subprocess.run([python, "-m", "pip", "install", "--quiet", *map(str, what)], check=True)


def lowest(requirements):
    """Return the lower bounds of requirements as pip's constraints; torch's wheels of long ago bring gigabytes of CUDA."""
    parsed = [Requirement(text) for text in requirements]
    bounds = {r.name: spec.version for r in parsed for spec in r.specifier if spec.operator == ">="}
    return [f"{name}=={version}" for name, version in bounds.items() if name != "torch"]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The folder of a wheel and a source distribution, both built from a copy of what git would commit."""
    folder = tmp_path_factory.mktemp("distributions")
    tools = python_of(folder / "tools")
    install(tools, "build", "twine")
    subprocess.run([tools, "-m", "build", "--outdir", folder / "dist", ROOT], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([tools, "-m", "twine", "check", "--strict", *sorted((folder / "dist").iterdir())], check=True)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(distributions):
    (path,) = distributions.glob("*.whl")
    return path


def test_the_source_distribution_builds_the_same_wheel(distributions, wheel, tmp_path):
    (source,) = distributions.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path / "w", folder], check=True)
    (again,) = (tmp_path / "w").glob("*.whl")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


@pytest.mark.parametrize("versions", ["those of the tests", "the lowest that are allowed"])
def test_the_readme_runs_where_only_the_wheel_is_installed(versions, wheel, tmp_path):
    python = python_of(tmp_path / "env")
    constraints = tmp_path / "constraints.txt"
    extras = PROJECT["project"]["optional-dependencies"]
    tested = (ROOT / "constraints.txt").read_text()
    if versions.startswith("those"):
        constraints.write_text(tested)
    else:
        torch = next(line for line in tested.splitlines() if line.startswith("torch=="))
        needed = [*PROJECT["project"]["dependencies"], *extras["torch"], *extras["tune"]]
        constraints.write_text("\n".join([torch, *lowest(needed)]))
    install(python, "--constraint", constraints, f"{wheel}[torch,tune]")
    (tmp_path / "work").mkdir()
    surroundings = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    surroundings.pop("PYTHONPATH", None)
    command = [python, "-P", ROOT / "tests" / "support" / "readme.py", ROOT / "README.md"]
    done = subprocess.run(command, check=True, cwd=tmp_path / "work", env=surroundings, stdout=subprocess.PIPE, text=True)
    assert done.stdout.splitlines()[-1] == "the README's snippets run"

    def told(*words):
        command = [tmp_path / "env" / "bin" / "tvm-balanced", *words]
        return subprocess.run(command, check=True, cwd=tmp_path, env=surroundings, stdout=subprocess.PIPE, text=True).stdout

    assert "nothing is wrong" in told("env")
    assert "This machine" in told("--help")
    ready = {row["name"]: row["ready"] for row in json.loads(told("doctor", "--json"))}
    assert ready["prune and compile PyTorch models"]
    assert ready["tune"]
