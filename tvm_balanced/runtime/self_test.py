"""The self-test of an artifact, where it lands: files, machine, numbers, and the time of a call."""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tvm_balanced.core.comparison import difference
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.text_table import table
from tvm_balanced.core.validation import check_path
from tvm_balanced.errors import ArtifactError, EnvironmentFaultError, TvmBalancedError
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.runtime.function import Function
from tvm_balanced.runtime.load import load, variant_here
from tvm_balanced.runtime.manifest import NAME, check_listing, path_of, read_manifest, variant_manifest
from tvm_balanced.runtime.signature import public_key
from tvm_balanced.runtime.stored_test import StoredTensor, StoredTest, sample
from tvm_balanced.runtime.tensors import view
from tvm_balanced.runtime.weight_files import checked_bytes, read_weight

SECONDS, MOST_CALLS = 0.1, 20  # of measuring a call


@dataclass(frozen=True)
class Finding:
    """What one check has found. `ok` is None for what is only said: a time is never a failure."""

    check: str
    ok: bool | None
    text: str


@dataclass(frozen=True)
class SelfTestResult:
    """What a self-test has found, in the order of its checks; those behind one that failed for all were not made."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.ok is not False for finding in self.findings)

    def __str__(self) -> str:
        said = {True: "ok", False: "WRONG", None: ""}
        return table(("check", "", "found"), [(one.check, said[one.ok], one.text) for one in self.findings])

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"ok": self.ok, "findings": [asdict(finding) for finding in self.findings]}


def self_test(path: str | Path, threads: int | None = None, verify_key: Any = None) -> SelfTestResult:
    """Check an artifact where it lands.

    Checked are the checksums of all files, those of other variants too; the signature, if there is a key; whether this machine
    has the artifact's architecture, instruction sets and version of TVM; and for each entry point whether its outputs for the
    stored inputs are those of the original model, up to the stored tolerance. The time of a call is set beside that where it was
    compiled.

    Parameters
    ----------
    path : str or Path
    threads, verify_key
        As for `load`.

    Returns
    -------
    SelfTestResult

    Raises
    ------
    InputError
        If an argument has the wrong type.
    ArtifactError
        If there is no artifact.
    """
    directory = check_path(path)
    key = None if verify_key is None else public_key(verify_key)
    if not (directory / NAME).exists():  # no artifact at all; what is damaged is a finding
        read_manifest(directory)
    return SelfTestResult(tuple(_findings(directory, threads, key)))


def stored_inputs(path: str | Path) -> dict[str, list[Array]]:
    """Return the inputs that an artifact stores for its self-test, by entry point; raises ArtifactError."""
    variant, manifest = variant_here(check_path(path))
    return {name: [one.whole() for one in test.inputs] for name, test in _stored(variant, manifest).items()}


def _findings(directory: Path, threads: int | None, key: Any) -> Iterator[Finding]:
    try:
        count, size = check_files(directory)
        yield Finding("files", True, f"{count} files, {size / 1e6:.1f} MB, checksums as listed")
    except (ArtifactError, OSError) as error:
        yield Finding("files", False, str(error))
        return
    try:
        variant, manifest = variant_here(directory, key=key)
        signed = ", signed by this key" if key is not None else ""
        has = f"has the {len(manifest['features'])} instruction sets that the code may use, and its version of TVM"
        yield Finding("machine", True, f"{_named(directory, variant)}this machine {has}{signed}")
        module = load(directory, threads, verify_key=key)
    except (ArtifactError, EnvironmentFaultError) as error:
        yield Finding("machine", False, str(error))
        return
    tests = _stored(variant, manifest)
    for name in manifest["entry_points"]:
        if name in tests:
            yield from _run(module, module[name], tests[name], manifest)
        else:
            yield Finding(name, None, "no self-test is stored: save it with this version, from a model that runs on its examples")


def _named(directory: Path, variant: Path) -> str:
    return "" if variant == directory else f"variant {variant.name}: "


def check_files(directory: Path) -> tuple[int, int]:
    """Return (number, bytes) of an artifact's files, those of all variants; raises ArtifactError, OSError where one is wrong."""
    manifest = read_manifest(directory)
    check_listing(directory, manifest)
    folders = [(directory, manifest)]
    if "variants" in manifest:
        inner = [(directory / name, variant_manifest(directory, manifest, name)) for name in manifest["variants"]]
        for variant, listed in inner:
            check_listing(variant, listed)
        folders = inner
    sizes: dict[Path, int] = {}
    for folder, listed in folders:
        sizes[folder / NAME] = (folder / NAME).stat().st_size
        for file, checksum in listed["sha256"].items():
            path = path_of(folder, listed, file)
            if path not in sizes:
                sizes[path] = len(checked_bytes(path, checksum))
    return len(sizes), sum(sizes.values())


def _stored(directory: Path, manifest: Mapping[str, Any]) -> dict[str, StoredTest]:
    """Return the self-test of each entry point that has one."""
    said = manifest.get("self_test") or {"entry_points": {}}
    sums = manifest["sha256"]

    def tensor(row: Mapping[str, Any]) -> StoredTensor:
        values = view(read_weight(path_of(directory, manifest, row["file"]), row, sums[row["file"]]))
        return StoredTensor(row["name"], values, tuple(row["of"]), row.get("allowed"))

    return {
        name: StoredTest(tuple(map(tensor, test["inputs"])), tuple(map(tensor, test["outputs"])), test["milliseconds"])
        for name, test in said["entry_points"].items()
    }


def _run(module: CompiledModule, function: Function, test: StoredTest, manifest: Mapping[str, Any]) -> Iterator[Finding]:
    inputs = [one.whole() for one in test.inputs]
    try:
        outputs = function.flat(*(array.copy() for array in inputs))  # donated ones hold outputs afterwards
    except TvmBalancedError as error:
        yield Finding(function.name, False, str(error))
        return
    if len(outputs) != len(test.outputs):
        yield Finding(function.name, False, f"gives {len(outputs)} outputs, stored are {len(test.outputs)}")
        return
    worst = [difference_to(one, array) for one, array in zip(test.outputs, outputs, strict=True)]
    for one, (largest, fault) in zip(test.outputs, worst, strict=True):
        if fault or (one.allowed is not None and not largest <= one.allowed):
            allowed = f"differs from the original model by {largest:.2e}; {one.allowed or 0:.2e} is allowed"
            yield Finding(function.name, False, f"{one.name} {fault or allowed}")
            return
    largest = max((largest for largest, _ in worst), default=0.0)
    yield Finding(function.name, True, f"largest difference to the original model {largest:.1e}, as allowed")
    if test.milliseconds:
        here = milliseconds(function, inputs)
        recorded = f"{test.milliseconds:.3f} on {manifest['self_test']['machine']}, {manifest['threads']} threads"
        ratio = f"{test.milliseconds / here:.2f} times as fast"
        yield Finding(function.name, None, f"{here:.3f} ms a call, {module.threads} threads; recorded {recorded}: {ratio}")


def difference_to(stored: StoredTensor, array: Array) -> tuple[float, str]:
    """Return (largest difference, fault) of an output and what is stored of it: the fault is empty, or another shape or dtype."""
    if array.dtype != stored.values.dtype or array.shape != stored.shape:
        return float("inf"), f"is {array.dtype}{list(array.shape)}, stored is {stored.values.dtype}{list(stored.shape)}"
    return difference(stored.values, sample(array, stored.values.size))[0], ""


def milliseconds(function: Function, arrays: Sequence[Array]) -> float:
    """Return the median time of a call with these inputs, of which donated ones change."""
    function.flat(*arrays)
    times: list[float] = []
    while sum(times) < SECONDS and len(times) < MOST_CALLS:
        start = time.perf_counter()
        function.flat(*arrays)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3
