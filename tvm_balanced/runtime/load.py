"""Load an artifact: check it first, then read its weights and open its library. Needs neither torch
nor the original model.
"""

import hashlib
import json
import tempfile
import threading
from pathlib import Path
from typing import Any, Literal

import tvm

from tvm_balanced.core.generation import Generation
from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.core.report import Report
from tvm_balanced.core.stderr_filter import quiet_tvm
from tvm_balanced.core.validation import check_path, check_threads
from tvm_balanced.errors import ArtifactError, EnvironmentFaultError, InputError
from tvm_balanced.runtime import environment, torch_operators
from tvm_balanced.runtime.causal_lm import module_class
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.runtime.cuda import cubins, diagnose
from tvm_balanced.runtime.host import cores, gpu_runs, host_target, missing_features
from tvm_balanced.runtime.manifest import check_listing, damaged, parse_manifest, path_of, read_bytes, variant_manifest
from tvm_balanced.runtime.metadata import Check, EntryPointSpec, ModuleMetadata, Origin
from tvm_balanced.runtime.signature import check_signature, public_key
from tvm_balanced.runtime.target_features import architecture, is_gpu
from tvm_balanced.runtime.weight_files import checked_bytes, map_weight, read_weight

SAME_VERSION = ("apache-tvm", "apache-tvm-ffi")  # a library runs only on the runtime that it was built with
# TVM closes no library as long as the process lives. So each is opened once, by its bytes: else a process that loads an artifact
# again and again would end after some ten thousand loads, when the system gives it no more mappings.
_opened: dict[bytes, Any] = {}
_opening = threading.Lock()


@quiet_tvm()
def load(
    path: str | Path,
    threads: int | None = None,
    verify: bool = True,
    weights: Literal["copied", "shared"] = "copied",
    verify_key: Any = None,
    cuda_graph: bool = False,
) -> CompiledModule:
    """Load an artifact. This needs neither torch nor the original model.

    The module does not depend on the files any more: an artifact that is replaced, changed or removed later changes no answer of
    a module that was loaded before. With `weights="shared"` it does, see there.

    Parameters
    ----------
    path : str or Path
    threads : int, optional
        Threads of a call; by default as many as it was compiled for, at most one per core.
    verify : bool
        Whether to check the checksums of what is loaded. Without, it takes less time, and a file that was altered is not noticed.
    weights : "copied" or "shared"
        "copied" reads them into this process's memory: 148 ms for an artifact of 94 MB, where "shared" took 116 ms, both with
        `verify`. "shared" maps the files, whose pages all processes of a machine share, and
        reads them when they are first used; they stay out of huge pages. Then the files must not change as long as the module
        lives: who writes to one in place changes its answers, and who shortens one ends the process with SIGBUS. To remove or
        replace them is safe.
    verify_key : optional
        The public ed25519 key of who signed it with `save(..., sign=key)`: a key of the package cryptography, 32 bytes, or a PEM
        file. Then an artifact is refused that has no signature, or one of another key. Without, a signature is not looked at.
    cuda_graph : bool
        Whether each call is one CUDA graph, on a GPU; see `CompiledModule.cuda_graph`.

    Raises
    ------
    InputError
        If an argument has the wrong type.
    ArtifactError
        If something is missing, altered, not listed in the manifest or not a plain file, or if the artifact with all its variants
        is for another CPU or version of TVM. None of its code has run then.
    TargetError
        If cuda_graph is asked of an artifact that is not for a GPU.
    EnvironmentFaultError
        If it is for a GPU, holds no machine code, and nothing here can compile it.
    """
    directory = check_path(path)
    if threads is not None:
        check_threads(threads)
    if weights not in ("copied", "shared"):
        raise InputError(f'weights is {weights!r:.40}; give "copied" or "shared"')
    if verify_key is not None and not verify:
        raise InputError("verify_key needs verify=True, as a signature is of checksums; leave verify out")
    key = None if verify_key is None else public_key(verify_key)
    try:
        directory, manifest = variant_here(directory, verify, key)
        files = {file: (path_of(directory, manifest, file), sum if verify else None) for file, sum in manifest["sha256"].items()}
        read = map_weight if weights == "shared" else read_weight
        tensors = []
        for row in manifest["weights"]:
            path, checksum = files[row["file"]]
            tensors.append((row["name"], read(path, row, checksum)))
        facts = _facts(manifest)
        if facts.on_gpu:
            cubins.add({Path(file).stem: checked_bytes(*files[file]) for file in _cubins(manifest)})
        library = _open_library(checked_bytes(*files["lib.so"]))
        _check_code(library, facts)
        module = module_class(facts)(
            library, tensors, facts, origin=Origin(directory.resolve(), manifest), shared=weights == "shared"
        )
    except (ArtifactError, EnvironmentFaultError):
        raise
    except (OSError, EOFError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise damaged(directory, f"{type(error).__name__}: {error}") from error
    module.threads = threads or min(module.threads, cores())
    module.cuda_graph = cuda_graph
    return module


def _check_code(library: Any, facts: ModuleMetadata) -> None:
    """Raise ValueError where a function of the library takes another number of tensors than the manifest lists."""
    arity = library["vm_load_executable"]()["get_function_arity"]
    for name, spec in facts.entry_points.items():
        listed, taken = len(spec.inputs) + len(spec.weights), int(arity(name))
        if taken != listed:
            raise ValueError(f"its function {name} takes {taken} tensors; the manifest lists {listed}")


def _cubins(manifest: dict[str, Any]) -> list[str]:
    return [file for file in manifest["sha256"] if file.startswith("gpu/") and file.endswith(".cubin")]


def _open_library(content: bytes) -> Any:
    """Return the library with these bytes; modules of one library share its code, as clones do."""
    key = hashlib.sha256(content).digest()
    with _opening:
        if key not in _opened:
            _opened[key] = _open_new_library(content)
        return _opened[key]


def _open_new_library(content: bytes) -> Any:
    """Open a library from a file of its own, which has no name any more when this returns.

    The loader knows a library by its path and its inode, so that a second library at the same path would be the first again. And
    what is written to the artifact's file later does not reach code that runs.
    """
    with tempfile.NamedTemporaryFile(prefix="tvm_balanced-", suffix=".so") as file:
        file.write(content)
        file.flush()
        try:
            return tvm.runtime.load_module(file.name)
        except (OSError, RuntimeError) as error:
            if "failed to map segment" in str(error):
                raise EnvironmentFaultError(
                    f"no code may run from {Path(file.name).parent}; set TMPDIR to a folder of a file system without noexec"
                ) from None
            raise


def variant_here(directory: Path, verify: bool = True, key: Any = None) -> tuple[Path, dict[str, Any]]:
    """Return the directory and manifest of the first variant that this machine can run; without variants, the artifact's own.

    Raises ArtifactError where none can, or where a manifest, a list of files or the signature is not as it must be.
    """
    content = read_bytes(directory)
    if key is not None:
        check_signature(directory, content, key)
    manifest = parse_manifest(directory, content, verify)
    if "variants" not in manifest:
        _check_machine(directory, manifest)
        check_listing(directory, manifest)
        return directory, manifest
    check_listing(directory, manifest)
    refusal: ArtifactError | None = None
    for name in manifest["variants"]:
        variant, inner = directory / name, variant_manifest(directory, manifest, name, verify)
        try:
            _check_machine(variant, inner)
        except ArtifactError as error:
            refusal = error
        else:
            check_listing(variant, inner)
            return variant, inner
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
    left = manifest.get("left_to_torch")
    if left and not torch_operators.installed():
        raise ArtifactError(
            f"{directory} leaves {', '.join(left)} to PyTorch, which is not installed; install torch, or compile the model again "
            "without fallback=True"
        )
    installed = environment.versions()
    for package in SAME_VERSION:
        built, here = manifest["versions"].get(package), installed.get(package)
        if built != here:
            raise ArtifactError(
                f"{directory} was built with {package} {built}, {here} is installed; install {built}, or compile the model again"
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
        generation=_generation(manifest.get("generation")),
    )


def _generation(said: dict[str, Any] | None) -> Generation | None:
    return None if said is None else Generation(**said | {"ends": tuple(said["ends"])})


def _spec(entry: dict[str, Any]) -> EntryPointSpec:
    def specs(rows: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(row["name"], tuple(row["shape"]), row["dtype"]) for row in rows)

    return EntryPointSpec(
        inputs=specs(entry["inputs"]),
        outputs=specs(entry["outputs"]),
        ranges={symbol: (low, high) for symbol, (low, high) in entry["ranges"].items()},
        result=entry["result"],
        call=entry["call"],
        donate=entry["donate"],
        weights=tuple(entry["weights"]),
    )
