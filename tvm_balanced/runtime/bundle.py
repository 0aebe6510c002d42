"""A bundle: what a machine without Python needs to run an artifact, in one folder that may be moved.

    bin/run        a program that loads it (cpp/examples/run.cc, or the user's)
    lib/           libtvm_runtime.so, libtvm_ffi.so; of a model for a GPU libtvm_runtime_cuda.so
    model.tb/      the artifact

The program finds its libraries relative to itself.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm

from tvm_balanced.core.files import files_below, new_directory
from tvm_balanced.core.validation import check_path
from tvm_balanced.errors import EnvironmentFaultError, InputError
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.manifest import read_manifest
from tvm_balanced.runtime.self_test import check_files
from tvm_balanced.runtime.target_features import architecture

CPP = Path(__file__).resolve().parent.parent / "cpp"
LIBRARIES = {"tvm": "libtvm_runtime.so", "tvm_ffi": "libtvm_ffi.so"}  # package to what a program needs of it
CUDA_LIBRARY = "libtvm_runtime_cuda.so"  # opened where a model is for a GPU
COMPILERS = ("g++", "clang++", "c++")
NO_JSON = (
    "nlohmann/json.hpp was not found; install nlohmann-json3-dev (Debian, Ubuntu) or json-devel (Fedora), or put its one file in "
    "a folder nlohmann and give that folder's parent as json_include"
)
NO_OPENSSL = (
    "the headers of OpenSSL were not found; install libssl-dev (Debian, Ubuntu) or openssl-devel (Fedora), or leave openssl out"
)


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written: its folder, the bytes of each part, and the libraries that the machine must have."""

    path: Path
    sizes: dict[str, int]
    needs: tuple[str, ...]


def package(
    artifact: str | Path,
    output: str | Path,
    program: str | Path | None = None,
    cxx: str | None = None,
    packages: str | Path | None = None,
    json_include: str | Path | None = None,
    openssl: bool = False,
) -> Bundle:
    """Gather an artifact, a program that runs it, and the libraries of the runtime.

    Parameters
    ----------
    artifact, output : str or Path
        The second is a directory that does not exist yet, or is empty.
    program : str or Path, optional
        A C++ source file that includes tvm_balanced/module.hpp; by default cpp/examples/run.cc.
    cxx : str, optional
        The C++ compiler; for another machine for instance "aarch64-linux-gnu-g++".
    packages : str or Path, optional
        A folder with that machine's packages tvm and tvm_ffi, as pip install --target --platform writes it; by default those
        that are installed.
    json_include : str or Path, optional
        The folder that holds nlohmann/json.hpp, if the compiler does not find it.
    openssl : bool
        Whether the program can check signatures, by OpenSSL's libcrypto, which it then needs where it runs.

    Returns
    -------
    Bundle

    Raises
    ------
    ArtifactError
        If the artifact is not whole, or the place is taken.
    InputError
        If it is for another architecture and no compiler and packages of it are given, or the program cannot be compiled.
    EnvironmentFaultError
        If a compiler, a header or a library is missing.
    """
    source, place = check_path(artifact), check_path(output)
    check_files(source)
    target = _target(source)
    _check_architecture(source, target, cxx, packages)
    code = check_path(program) if program is not None else CPP / "examples" / "run.cc"
    folders = _folders(None if packages is None else check_path(packages))
    with new_directory(place) as directory:
        for name in ("bin", "lib"):
            (directory / name).mkdir()
        libraries = [folders[name] / "lib" / library for name, library in LIBRARIES.items()]
        libraries += [folders["tvm"] / "lib" / CUDA_LIBRARY] if target.kind.name == "cuda" else []
        for library in libraries:
            shutil.copy(library, directory / "lib" / library.name)
        _compile(code, directory, cxx, folders, json_include, openssl)
        shutil.copytree(source, directory / "model.tb")
        binaries = [directory / "bin" / code.stem, *(directory / "lib" / library.name for library in libraries)]
        sizes = {str(binary.relative_to(directory)): binary.stat().st_size for binary in binaries}
        sizes["model.tb"] = sum((directory / "model.tb" / file).stat().st_size for file in files_below(directory / "model.tb"))
        needs = _needed(binaries) - {library.name for library in libraries}
    return Bundle(place, sizes, tuple(sorted(needs)))


def _target(source: Path) -> tvm.target.Target:
    """Return the target of an artifact; of its first variant, whose architecture is that of the others."""
    manifest = read_manifest(source)
    first = read_manifest(source / manifest["variants"][0]) if "variants" in manifest else manifest
    return tvm.target.Target(json.loads(first["target"]))


def _check_architecture(source: Path, target: tvm.target.Target, cxx: str | None, packages: str | Path | None) -> None:
    if architecture(target) != architecture(host_target()) and (cxx is None or packages is None):
        raise InputError(f"{source} is for {architecture(target)}; give a compiler as cxx and packages of that architecture")


def _needed(binaries: Sequence[Path]) -> set[str]:
    """Return the libraries that programs name, as readelf of binutils lists them; none where there is no readelf."""
    if shutil.which("readelf") is None:
        return set()
    listed = subprocess.run(["readelf", "-d", *map(str, binaries)], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"\(NEEDED\).*\[(.+)\]", listed))


def _folders(packages: Path | None) -> dict[str, Path]:
    """Return the folder of each package that has headers and a library."""
    found = {}
    for name, library in LIBRARIES.items():
        spec = importlib.util.find_spec(name)
        installed = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else Path(name)
        found[name] = installed if packages is None else packages / name
        if not (found[name] / "lib" / library).is_file():
            raise EnvironmentFaultError(f"{found[name]} has no lib/{library}; give a folder with the packages tvm and tvm_ffi")
    return found


def _compile(
    code: Path, directory: Path, cxx: str | None, folders: dict[str, Path], json_include: str | Path | None, openssl: bool
) -> None:
    compiler = cxx or next((name for name in COMPILERS if shutil.which(name)), None)
    if compiler is None or shutil.which(compiler) is None:
        raise EnvironmentFaultError(f"no C++ compiler {cxx or ''} was found; install g++, or name one as cxx")
    includes = [CPP / "include", *(folder / "include" for folder in folders.values())]
    includes += [Path(json_include)] if json_include is not None else []
    command = [compiler, "-std=c++17", "-O2", "-s", *(f"-I{path}" for path in includes), str(code), "-o"]
    command += [str(directory / "bin" / code.stem), f"-L{directory / 'lib'}", "-ltvm_ffi", "-Wl,--no-as-needed", "-ltvm_runtime"]
    command += ["-Wl,--as-needed", "-Wl,-rpath,$ORIGIN/../lib", "-pthread", "-ldl"]
    command += ["-DTVM_BALANCED_OPENSSL", "-lcrypto"] if openssl else []
    failed = _failure(command)
    if "openssl/" in failed and "No such file" in failed:
        raise EnvironmentFaultError(NO_OPENSSL)
    if "nlohmann/json.hpp" in failed and "No such file" in failed:
        raise EnvironmentFaultError(NO_JSON)
    if failed:
        said = next((line for line in failed.splitlines() if "error" in line or "undefined" in line), failed.splitlines()[-1])
        raise InputError(f"{compiler} cannot compile {code}: {said.strip()}; mend the program", usage=False)


def _failure(command: Sequence[str]) -> str:
    """Return what a command that failed has said; empty if it did not."""
    with tempfile.TemporaryFile("w+") as said:
        code = subprocess.run(command, stdout=said, stderr=said, check=False).returncode
        said.seek(0)
        return (said.read() or f"it ended with {code}") if code else ""
