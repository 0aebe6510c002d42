"""The artifact: a directory that holds a compiled module.

    manifest.json   versions, target, instruction sets, entry points, report, max error, checksums
    lib.so          the code
    weights/*.npy   one file per parameter, its data 64-byte aligned in the file
    self_test/*.npy values of inputs, and what the original model gives for them
    gpu/*.cubin     machine code of a GPU's kernels, if nvcc was installed; else their source, in lib.so, is compiled
                    when it is first used

For several machines, the artifact is a directory of such directories (its variants) and a manifest
that lists them, best first. Files that several variants have are stored once, in the folder shared.
Loading takes the first variant that this machine can run.

docs/artifact.md has the whole format. Earlier ones are read too, see `manifest_formats`.

An artifact is written beside its destination and moved there as a whole, so a half-written one
never has the final name.
"""

import contextlib
import hashlib
import json
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import tvm

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.files import new_directory
from tvm_balanced.core.stderr_filter import quiet_tvm
from tvm_balanced.core.validation import check_path, require
from tvm_balanced.errors import ArtifactError, InputError, last_line
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.cuda import cubins
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.manifest import NAME, SHARED, path_of, read_manifest, write_manifest
from tvm_balanced.runtime.manifest_formats import FORMAT
from tvm_balanced.runtime.metadata import Origin, Saveable
from tvm_balanced.runtime.signature import private_key, write_signature
from tvm_balanced.runtime.target_features import architecture, target_key
from tvm_balanced.runtime.tensors import on_host
from tvm_balanced.runtime.weight_files import checked_bytes

_LINKING = threading.Lock()  # TVM changes the modules of an executable while it exports them: two threads at once end the process


@quiet_tvm()
def save(modules: Saveable | Sequence[Saveable], path: str | Path, cc: str | None = None, sign: Any = None) -> None:
    """Write a compiled module as an artifact, or several modules as its variants. Loading takes the
    first variant that runs.

    Parameters
    ----------
    modules : CompiledModule or sequence of CompiledModule
        Several must be compiled from one model for different targets of one architecture. Order
        them by preference: those that need more instruction sets come first.
    path : str or Path
        A directory that does not exist yet, or is empty.
    cc : str, optional
        Linker for the modules' targets if they are not this machine's, for instance
        "aarch64-linux-gnu-gcc".
    sign : optional
        A private ed25519 key, by which it is signed: a key of the package cryptography, 32 bytes, or a PEM file.

    Raises
    ------
    InputError
        If several modules are not variants of one model, or the key is none.
    ArtifactError
        If the path is taken or cannot be written, or no C compiler can link a library.
    """
    place, variants = check_path(path), _listed(modules)
    names = variant_names([tvm.target.Target(json.loads(module.facts.target)) for module in variants])
    _check_one_model(variants)
    key = None if sign is None else private_key(sign)
    with new_directory(place) as directory:
        if len(variants) == 1:
            _write(variants[0], directory, cc)
        else:
            for name, module in zip(names, variants, strict=True):
                (directory / name).mkdir()
                _write(module, directory / name, cc)
            shared = _store_equal_files_once(directory, names)
            manifests = {f"{name}/{NAME}": digest(directory / name / NAME) for name in names}
            _write_manifest(directory, {"variants": names, "sha256": manifests | shared})
        if key is not None:
            write_signature(directory, key)


def _listed(modules: Any) -> list[Saveable]:
    """Return one module or several as a list; raises InputError for anything else."""
    if isinstance(modules, Saveable):
        return [modules]
    require("modules", modules or None, Sequence, "a compiled module, or a list of them")
    for module in modules:
        require("an entry of modules", module, Saveable, "a compiled module, as compile returns it")
    return list(modules)


def variant_names(targets: Sequence[tvm.target.Target]) -> list[str]:
    """Return the variant name of each target, its key; raises InputError if one artifact cannot hold them all."""
    names = [target_key(target) for target in targets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"two variants are for {twice}; give one for each target")
    if len({(target.kind.name, architecture(target)) for target in targets}) > 1:
        raise InputError(f"the variants are for {', '.join(names)}; give targets of one kind and one architecture")
    return names


def _check_one_model(modules: list[Saveable]) -> None:
    first, *others = (module.facts for module in modules)
    for facts in others:
        pairs = zip(facts.entry_points.items(), first.entry_points.items(), strict=False)
        same = all(name == other and spec.same_tensors(wanted) for (name, spec), (other, wanted) in pairs)
        if not same or len(facts.entry_points) != len(first.entry_points):
            raise InputError(
                f"the variants for {first.target_key} and {facts.target_key} take or give other tensors; give modules compiled "
                "from one model"
            )


def _write(module: Saveable, directory: Path, cc: str | None) -> None:
    if module.origin is not None:  # a linked library is not linked again
        _copy(module.origin, directory)
        return
    _link(module, directory / "lib.so", cc)
    if module.facts.on_gpu:
        cubins.write(module.executable, json.loads(module.facts.target)["arch"], directory / "gpu")
    weights = [_write_array(directory, f"weights/{i:04d}.", name, on_host(t)) for i, (name, t) in enumerate(module.weights)]
    self_test = _write_self_test(directory, module)
    files = sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())
    _write_manifest(
        directory,
        {
            **{key: value for key, value in asdict(module.facts).items() if key != "report"},
            "report": module.facts.report.to_json(),
            "left_to_torch": list(map(str, module.facts.report.left)),
            "weights": weights,
            "self_test": self_test,
            "sha256": {file: digest(directory / file) for file in files},
        },
    )


def _write_self_test(directory: Path, module: Saveable) -> dict[str, Any] | None:
    """Write what a self-test needs, and return what the manifest says of it."""
    tests: dict[str, Any] = {}
    for name, test in module.self_tests.items():
        rows: dict[str, list[dict[str, Any]]] = {}
        for part, stored in (("inputs", test.inputs), ("outputs", test.outputs)):
            rows[part] = []
            for one in stored:
                count = sum(len(rows) for test in tests.values() for rows in (test["inputs"], test["outputs"]))
                place = count + sum(map(len, rows.values()))
                row = _write_array(directory, f"self_test/{place:04d}.", one.name, one.values)
                rows[part].append(row | {"of": list(one.shape)} | ({"allowed": one.allowed} if part == "outputs" else {}))
        tests[name] = rows | {"milliseconds": test.milliseconds}
    return {"machine": target_key(host_target()), "entry_points": tests} if tests else None


def _copy(origin: Origin, directory: Path) -> None:
    """Write the files that an artifact had when it was loaded; raises ArtifactError where one of them is another now."""
    for file, checksum in origin.manifest["sha256"].items():
        try:
            content = checked_bytes(path_of(origin.directory, origin.manifest, file), checksum)
        except (OSError, ArtifactError):
            raise ArtifactError(
                f"{origin.directory / file} is not what the module was loaded from any more; load it again and save that"
            ) from None
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        (directory / file).write_bytes(content)
    _write_manifest(directory, {**origin.manifest, "shared": {}})


def _write_manifest(directory: Path, content: Mapping[str, Any]) -> None:
    write_manifest(directory, {"format": FORMAT, "created": datetime.now(UTC).isoformat(timespec="seconds"), **content})


def _store_equal_files_once(directory: Path, variants: list[str]) -> dict[str, str]:
    """Move files that several variants have, such as embeddings, to the folder shared; return the checksum of each."""
    manifests = {name: read_manifest(directory / name) for name in variants}
    places: dict[str, list[tuple[str, str]]] = {}
    for name, manifest in manifests.items():
        for file, checksum in manifest["sha256"].items():
            places.setdefault(checksum, []).append((name, file))
    shared: dict[str, str] = {}
    for checksum, same in places.items():
        if len({name for name, _ in same}) < 2:
            continue
        stored = f"{len(shared):04d}{Path(same[0][1]).suffix}"
        (directory / SHARED).mkdir(exist_ok=True)
        (directory / same[0][0] / same[0][1]).rename(directory / SHARED / stored)
        shared[f"{SHARED}/{stored}"] = checksum
        for name, file in same:
            _remove(directory / name / file)
            manifests[name]["shared"][file] = stored
    for name, manifest in manifests.items():
        write_manifest(directory / name, manifest)
    return shared


def _remove(file: Path) -> None:
    """Remove a file if it is there, and its folder if it is empty then."""
    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        file.parent.rmdir()


def _link(module: Saveable, path: Path, cc: str | None) -> None:
    linker = cc or environment.c_compiler()
    if linker is None or shutil.which(linker) is None:
        raise ArtifactError(f"no C compiler {cc or ''} was found to link the library; install gcc, or name one with cc=")
    target = tvm.target.Target(json.loads(module.facts.target))
    if cc is None and architecture(target) != architecture(host_target()):
        raise ArtifactError(f"the module is for {architecture(target)}; name a compiler that links for it with cc=")
    try:
        with _LINKING:
            module.executable.export_library(str(path), cc=linker)
        if not path.is_file():
            raise RuntimeError("it wrote no library")
    except (RuntimeError, ValueError, TypeError) as error:
        raise ArtifactError(f"{linker} cannot link the library: {last_line(error)}; check the compiler") from error


def _write_array(directory: Path, start: str, name: str, array: Array) -> dict[str, Any]:
    """Write an array to a file whose path begins so, and return what the manifest says of it."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)[-150:]
    file = f"{start}{safe}.npy"
    (directory / file).parent.mkdir(exist_ok=True)
    bits = array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array
    np.save(directory / file, bits)
    return {"name": name, "file": file, "dtype": str(array.dtype), "shape": list(array.shape)}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
