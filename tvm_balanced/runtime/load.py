"""Load an artifact: check it first, then map its weights and open its library. Needs neither torch
nor the original model.
"""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import tvm

from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.core.report import Report
from tvm_balanced.core.stderr_filter import quiet_tvm
from tvm_balanced.core.validation import check_count, check_path
from tvm_balanced.errors import ArtifactError, EnvironmentFaultError
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.artifact import digest, read_manifest
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.runtime.cuda import cubins, diagnose
from tvm_balanced.runtime.host import cores, gpu_runs, host_target, missing_features
from tvm_balanced.runtime.metadata import Check, EntryPointSpec, ModuleMetadata
from tvm_balanced.runtime.target_features import architecture, is_gpu

SAME_VERSION = ("apache-tvm", "apache-tvm-ffi")  # a library runs only on the runtime that it was built with


@quiet_tvm()
def load(path: str | Path, threads: int | None = None, verify: bool = True) -> CompiledModule:
    """Load an artifact. This needs neither torch nor the original model.

    Parameters
    ----------
    path : str or Path
    threads : int, optional
        Threads of a call; by default as many as it was compiled for, at most one per core.
    verify : bool
        Whether to check the checksums, which reads every byte of the weights once.

    Raises
    ------
    InputError
        If an argument has the wrong type.
    ArtifactError
        If something is missing or altered, or if the artifact with all its variants is for another
        CPU or version of TVM. None of its code has run then.
    EnvironmentFaultError
        If it is for a GPU, holds no machine code, and nothing here can compile it.
    """
    directory = check_path(path)
    if threads is not None:
        check_count("threads", threads)
    try:
        directory, manifest = _variant(directory)
        if verify:
            _check_files(directory, manifest)
        weights = [(w["name"], _read_weight(directory, w)) for w in manifest["weights"]]
        facts = _facts(manifest)
        places = {place for spec in facts.entry_points.values() for place in spec.weights}
        if not facts.entry_points or not places <= set(range(len(weights))):
            raise ValueError("it has no entry point, or lacks weights of one")
        if facts.on_gpu:
            cubins.read(directory / "gpu")
        library = tvm.runtime.load_module(str((directory / "lib.so").resolve()))
    except (ArtifactError, EnvironmentFaultError):
        raise
    except (OSError, EOFError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"{directory} is not a whole artifact ({type(error).__name__}: {error}); compile the model again"
        ) from error
    module = CompiledModule(library, weights, facts, origin=directory.resolve())
    module.threads = threads or min(module.threads, cores())
    return module


def _variant(directory: Path) -> tuple[Path, dict[str, Any]]:
    """Return the directory and manifest of the first variant that this machine can run; without
    variants, the artifact's own.
    """
    manifest = read_manifest(directory)
    if "variants" not in manifest:
        _check_machine(directory, manifest)
        return directory, manifest
    refusal: ArtifactError | None = None
    for name in manifest["variants"]:
        variant, inner = directory / name, read_manifest(directory / name)
        try:
            _check_machine(variant, inner)
        except ArtifactError as error:
            refusal = error
        else:
            return variant, inner
    if refusal is None:
        raise ValueError("it lists no variant")
    raise ArtifactError(f"no variant of {directory} runs here; the last: {refusal}")


def _check_machine(directory: Path, manifest: dict[str, Any]) -> None:
    target = tvm.target.Target(json.loads(manifest["target"]))
    if architecture(target) != architecture(host_target()):
        raise ArtifactError(
            f"{directory} is for {architecture(target)}; this machine is {architecture(host_target())}: compile it for this one"
        )
    if is_gpu(target) and not gpu_runs(str(target.attrs["arch"])):
        why = diagnose.fault() or "load it on one that has, or compile the model for this machine"
        raise ArtifactError(f"{directory} is for a GPU of {target.attrs['arch']}, which this machine does not have; {why}")
    missing = missing_features(manifest["features"])
    if missing:
        raise ArtifactError(
            f"{directory} needs {', '.join(missing)}, which this CPU does not have; compile it for this CPU, or for an older one"
        )
    installed = environment.versions()
    for package in SAME_VERSION:
        built, here = manifest["versions"].get(package), installed.get(package)
        if built != here:
            raise ArtifactError(
                f"{directory} was built with {package} {built}, {here} is installed; install {built}, or compile the model again"
            )


def _check_files(directory: Path, manifest: dict[str, Any]) -> None:
    for file, expected in manifest["sha256"].items():
        try:
            actual = digest(directory / file)
        except OSError:
            raise ArtifactError(f"{directory} lacks {file}; copy the artifact again, or compile the model again") from None
        if actual != expected:
            raise ArtifactError(
                f"{directory / file} was altered (its checksum differs); copy the artifact again, or compile the model again"
            )


def _facts(manifest: dict[str, Any]) -> ModuleMetadata:
    return ModuleMetadata(
        entry_points={name: _spec(entry) for name, entry in manifest["entry_points"].items()},
        report=Report.from_json(manifest["report"]),
        target=manifest["target"],
        features=tuple(manifest["features"]),
        threads=manifest["threads"],
        source=manifest["source"],
        versions=manifest["versions"],
        max_error=manifest["max_error"],
        checks=tuple(Check(**check) for check in manifest.get("checks", ())),
    )


def _spec(entry: dict[str, Any]) -> EntryPointSpec:
    def specs(rows: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(row["name"], tuple(row["shape"]), row["dtype"]) for row in rows)

    return EntryPointSpec(
        inputs=specs(entry["inputs"]),
        outputs=specs(entry["outputs"]),
        ranges={symbol: (low, high) for symbol, (low, high) in entry["ranges"].items()},
        structure=entry["structure"],
        donate=entry["donate"],
        weights=tuple(entry["weights"]),
    )


def _read_weight(directory: Path, weight: dict[str, Any]) -> Any:
    # Copy-on-write: pages are loaded from the file when they are first read, and nothing is written
    # back. The .npy format aligns the data to 64 bytes.
    array = np.load(directory / weight["file"], mmap_mode="c")
    if list(array.shape) != weight["shape"]:
        raise ValueError(f"{weight['file']} has shape {array.shape}")
    if weight["dtype"] == "bfloat16":
        return tvm.runtime.tensor(array.view(ml_dtypes.bfloat16))
    return tvm.runtime.from_dlpack(np.asarray(array))
