"""The manifest of an artifact: written, read, brought to the present format, and checked before anything that it names is opened.

docs/artifact.md has the format and its rules.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any

from tvm_balanced.core.files import files_below, open_regular
from tvm_balanced.core.generation import Generation
from tvm_balanced.core.loss import OutputLoss
from tvm_balanced.core.report import PrecisionReport
from tvm_balanced.core.structure import check_pairs, check_tree
from tvm_balanced.core.validation import MOST_THREADS
from tvm_balanced.errors import ArtifactError
from tvm_balanced.runtime.manifest_formats import FORMAT, READABLE, SEALED_FROM, upgraded

NAME, SIGNATURE = "manifest.json", "manifest.json.sig"
SHARED = "shared"  # the folder of files that several variants have
MOST_BYTES = 64 << 20  # of a manifest; one of 1,000 layers has 1 MB
DTYPES = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 bfloat16".split())
SEAL = re.compile(rb'\{"checksum": "([0-9a-f]{64})",\n')  # the first line: the SHA-256 of all that follows it
NOT_FINITE = ("inf", "-inf", "nan")  # numbers that JSON does not have are written as {"float": "inf"}


def write_manifest(directory: Path, content: Mapping[str, Any]) -> None:
    """Write a manifest of the present format; raises OSError."""
    lines = json.dumps(_plain(dict(content)), indent=1, allow_nan=False).removeprefix("{\n") + "\n"
    seal = f'{{"checksum": "{hashlib.sha256(lines.encode()).hexdigest()}",\n'
    (directory / NAME).write_text(seal + lines)


def read_manifest(directory: Path, verify: bool = True) -> dict[str, Any]:
    """Return the manifest of an artifact as plain data, as the present format has it.

    Raises
    ------
    ArtifactError
        Where none can be read, where it was altered (unless not to `verify`), or where it lists what no artifact has. A manifest
        that was read names only files inside the artifact, each with its checksum.
    """
    return parse_manifest(directory, read_bytes(directory), verify)


def read_bytes(directory: Path) -> bytes:
    """Return what the manifest's file holds; raises ArtifactError where it cannot be read."""
    path = directory / NAME
    try:
        with open_regular(path) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise _unreadable(directory, error.strerror or str(error), usage=not path.exists()) from None
    if len(content) > MOST_BYTES:
        raise _unreadable(directory, f"it has more than {MOST_BYTES >> 20} MiB")
    return content


def parse_manifest(directory: Path, content: bytes, verify: bool = True) -> dict[str, Any]:
    """Return what the file of a manifest says; errors as for `read_manifest`."""
    try:
        manifest = _parsed(content)
    except (ValueError, RecursionError) as error:
        raise _unreadable(directory, "it is nested too deep" if isinstance(error, RecursionError) else str(error)) from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found not in READABLE or isinstance(found, bool):
        raise ArtifactError(f"{directory} has format {found}; this version reads formats 2 to {FORMAT}: compile the model again")
    if verify and found >= SEALED_FROM and not _sealed(content):
        raise damaged(directory, "its manifest was altered, its checksum differs")
    manifest.pop("checksum", None)
    try:
        manifest = upgraded(manifest)
        if "variants" in manifest:
            _check_variants(manifest["variants"])
            _check_listed(manifest["sha256"], manifest["variants"])
        else:
            _check_fields(manifest)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise damaged(directory, f"its manifest is damaged: {what}") from None
    return manifest


def _plain(value: Any) -> Any:
    """Return a value with numbers that JSON has; what else it is made of stays as it is."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return {"float": str(value)} if isinstance(value, float) and not math.isfinite(value) else value


def _parsed(content: bytes) -> Any:
    """Return JSON as Python's values. Raises ValueError where it is none, or an object has a key twice; RecursionError."""
    constants: list[str] = []  # NaN and Infinity, as formats up to 4 may have them

    def constant(text: str) -> float:
        constants.append(text)
        return float(text)

    found = json.loads(content.decode(), object_pairs_hook=_object, parse_constant=constant)
    if constants and not (isinstance(found, dict) and found.get("format") in READABLE and found["format"] < SEALED_FROM):
        raise ValueError(f"{constants[0]} is no number of JSON")
    json.dumps(found, ensure_ascii=False).encode()  # a half of a surrogate pair is no text
    return found


def _object(pairs: list[tuple[str, Any]]) -> Any:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r:.40} stands twice in an object")
    if keys == ["float"] and isinstance(pairs[0][1], str) and pairs[0][1] in NOT_FINITE:
        return float(pairs[0][1])
    return dict(pairs)


def _sealed(content: bytes) -> bool:
    first = SEAL.match(content)
    return first is not None and hashlib.sha256(content[first.end() :]).hexdigest() == first[1].decode()


def _unreadable(directory: Path, why: str, usage: bool = False) -> ArtifactError:
    return ArtifactError(
        f"{directory} has no readable manifest.json ({why}); give a directory that CompiledModule.save wrote", usage=usage
    )


def damaged(directory: Path, what: str) -> ArtifactError:
    """Return the error for an artifact that cannot be used as it is."""
    return ArtifactError(f"{directory} is not a whole artifact ({what}); copy the artifact again, or compile the model again")


def check_listing(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ArtifactError unless an artifact's folder holds the files that its manifest lists and nothing else.

    Links, devices, fifos and sockets are refused: nothing outside the folder can be read through one, and no read hangs.
    """
    found = files_below(directory) - {NAME, SIGNATURE}
    if "variants" in manifest:
        listed = set(manifest["variants"]) | {file for file in manifest["sha256"] if file.startswith(f"{SHARED}/")}
        tops = {file: PurePosixPath(file).parts[0] for file in found}
        found = {file if top == SHARED else top for file, top in tops.items()}
    else:
        listed = set(manifest["sha256"]) - set(manifest["shared"])
    for file in sorted(listed - found):
        raise ArtifactError(f"{directory} lacks {file}; copy the artifact again, or compile the model again")
    for file in sorted(found - listed):
        shown = file if file.isprintable() else ascii(file)
        raise ArtifactError(f"{directory} holds {shown}, which its manifest does not list; remove it, or compile the model again")


def variant_manifest(directory: Path, manifest: Mapping[str, Any], name: str, verify: bool = True) -> dict[str, Any]:
    """Return the manifest of a variant of an artifact; raises ArtifactError where it is not the one that the artifact lists."""
    variant, listed = directory / name, manifest["sha256"].get(f"{name}/{NAME}")
    content = read_bytes(variant)
    if verify and listed is not None and hashlib.sha256(content).hexdigest() != listed:
        raise damaged(variant, "its manifest was altered, its checksum differs")
    inner = parse_manifest(variant, content, verify)
    if "variants" in inner:
        raise damaged(variant, "a variant has no variants")
    for file, shared in inner["shared"].items():
        if manifest["sha256"].get(f"{SHARED}/{shared}") != inner["sha256"][file]:
            raise damaged(variant, f"{file} is not the file {shared} that its variants share")
    return inner


def path_of(directory: Path, manifest: Mapping[str, Any], file: str) -> Path:
    """Return where a file of an artifact, or of a variant, lies: in its folder, or in the one that variants share."""
    shared = manifest["shared"].get(file)
    return directory / file if shared is None else directory.parent / SHARED / shared


def _check_variants(names: Any) -> None:
    _want("variants", names, isinstance(names, list) and bool(names), "a list of folders")
    for name in names:
        plain = isinstance(name, str) and name != SHARED and _is_name(name)
        _want("a variant", name, plain, "the name of a folder in the artifact")
    _want("variants", names, len(set(names)) == len(names), "each name once")


def _check_listed(sums: Any, variants: list[str]) -> None:
    """Check the checksums of a list of variants: of their manifests, and of the files that they share. Up to format 4: none."""
    _check_paths(sums)
    manifests = {f"{name}/{NAME}" for name in variants}
    others = [file for file in sums if not file.startswith(f"{SHARED}/") and file not in manifests]
    _want("sha256", sums, not others and (not sums or manifests <= set(sums)), "of manifests of variants, and of what they share")


def _check_fields(manifest: dict[str, Any]) -> None:
    for name in ("target", "source"):
        _want(name, manifest[name], isinstance(manifest[name], str), "a text")
    target = json.loads(manifest["target"])
    _want("target", manifest["target"], isinstance(target, dict) and isinstance(target.get("kind"), str), "a target of TVM")
    _want("features", manifest["features"], _all(manifest["features"], list, str), "a list of texts")
    _want("versions", manifest["versions"], _all(manifest["versions"], dict, str), "a version for each package")
    _want("threads", manifest["threads"], _whole(manifest["threads"], 1, MOST_THREADS), f"a number from 1 to {MOST_THREADS}")
    error = manifest["max_error"]
    _want("max_error", error, error is None or _number(error), "a number or null")
    _check_report(manifest["report"])
    left = manifest.get("left_to_torch", [])
    _want("left_to_torch", left, _all(left, list, str), "a list of operators")
    _check_paths(manifest["sha256"])
    _want("sha256", manifest["sha256"], "lib.so" in manifest["sha256"], "a checksum of lib.so")
    _check_shared(manifest["shared"], manifest["sha256"])
    weights = manifest["weights"]
    _want("weights", weights, _all(weights, list, dict), "a list of tensors")
    for row in weights:
        _check_weight(row, manifest["sha256"])
    entries = manifest["entry_points"]
    _want("entry_points", entries, bool(entries) and _all(entries, dict, dict), "an entry for each function")
    for name, entry in entries.items():
        _check_entry_point(name, entry, len(weights))
    if manifest.get("generation") is not None:
        _check_generation(manifest["generation"], entries)
    if manifest.get("self_test") is not None:
        _check_self_test(manifest["self_test"], entries, manifest["sha256"])


def _check_shared(shared: Any, sums: Mapping[str, str]) -> None:
    _want("shared", shared, _all(shared, dict, str) and set(shared) <= set(sums), "a name in the folder shared for some files")
    for name in shared.values():
        _want("a shared file", name, _is_name(name), "the name of a file in the folder shared")


def _check_self_test(said: Any, entries: Mapping[str, Any], sums: Mapping[str, str]) -> None:
    _want("self_test", said, isinstance(said, dict) and isinstance(said["machine"], str), "a machine and its entry points")
    tests = said["entry_points"]
    _want("self_test", tests, _all(tests, dict, dict) and set(tests) <= set(entries), "a test for entry points of this artifact")
    for name, test in tests.items():
        for part in ("inputs", "outputs"):
            rows, wanted = test[part], entries[name][part]
            _want(f"{part} of self_test", rows, _all(rows, list, dict) and len(rows) == len(wanted), f"as many as of {name}")
            for row, spec in zip(rows, wanted, strict=True):
                _check_weight(row, sums)
                _check_values(row, spec, entries[name]["ranges"])
        limits = [row["allowed"] for row in test["outputs"]]
        _want("allowed", limits, all(limit is None or _number(limit) for limit in limits), "a number or null for each output")
        _want("milliseconds", test["milliseconds"], test["milliseconds"] is None or _number(test["milliseconds"]), "a number")


def _check_generation(said: Any, entries: Mapping[str, Any]) -> None:
    _want("generation", said, isinstance(said, dict), "the length, batch and chunk of a cache")
    encodes = bool(said.get("source"))
    begins = "encode" if encodes else "prefill"
    _want("generation", said, {begins, "decode"} <= set(entries), f"of entry points {begins} and decode")
    names = {field.name for field in fields(Generation)}
    _want("generation", said, names - {"source", "first"} <= set(said) <= names, "the length, batch and chunk of a cache")
    for name in ("length", "batch", "chunk"):
        _want(name, said[name], _whole(said[name], 1), "a whole number from 1 up")
    _want("ends", said["ends"], _all(said["ends"], list, int), "a list of tokens")
    for name in ("pad", "source", "first"):
        _want(name, said.get(name, 0), _whole(said.get(name, 0), 0), "a token, or a number of them")
    sizes = {begins: [said["batch"], said["source"] if encodes else said["chunk"]], "decode": [said["batch"], 1]}
    for name, shape in sizes.items():
        _want(
            f"the tokens of {name}", entries[name]["inputs"][0]["shape"], entries[name]["inputs"][0]["shape"] == shape, str(shape)
        )


def _check_values(row: Mapping[str, Any], spec: Mapping[str, Any], ranges: Mapping[str, Any]) -> None:
    """Check what is stored of a tensor for the self-test."""
    sizes, wanted = row["of"], spec["shape"]
    fits = isinstance(sizes, list) and len(sizes) == len(wanted) and row["dtype"] == spec["dtype"]
    for size, want in zip(sizes, wanted, strict=True) if fits else ():
        low, high = ranges.get(want, (0, None)) if isinstance(want, str) else (want, want)
        fits = fits and _whole(size, low, high)
    _want(f"{row['name']} of self_test", sizes, fits and math.prod(sizes) < 2**31, f"a shape of {spec['name']}, of its dtype")
    few = len(row["shape"]) == 1 and (0 < row["shape"][0] <= math.prod(sizes) or 0 in sizes)
    _want(f"{row['name']} of self_test", row["shape"], few, "some of the tensor's values")


def _check_report(report: Any) -> None:
    """Check a report: its lists of rows; earlier versions wrote no races, and before that the list of layers alone."""
    parts = ("layers", "operators", "functions")
    lists = [*map(report.get, parts), report.get("races", [])] if isinstance(report, dict) else [report]
    _want("report", report, all(_all(rows, list, dict) for rows in lists), "lists of layers, operators, functions and races")
    if isinstance(report, dict) and "precision" in report:
        _check_precision(report["precision"])


def _check_precision(said: Any) -> None:
    known = {field.name for field in fields(PrecisionReport)}
    fits = isinstance(said, dict) and known - {"attention"} <= set(said) <= known  # earlier versions wrote none
    _want("precision", said, fits, "what layers are computed in, and the losses")
    _want("attention", said.get("attention", ""), isinstance(said.get("attention", ""), str), "what attention is computed in")
    for name in ("losses", "everything"):
        _want(name, said[name], _all(said[name], list, dict), "a list of losses")
        for loss in said[name]:
            _want("a loss", loss, set(loss) == {field.name for field in fields(OutputLoss)}, "the loss of an output")
    _want("rounded", said["rounded"], _all(said["rounded"], list, str), "a list of layers")
    _want("kept", said["kept"], _all(said["kept"], dict, float), "a loss for each layer")


def _check_paths(sums: Any) -> None:
    hexadecimal = set("0123456789abcdef")
    _want("sha256", sums, _all(sums, dict, str), "a checksum for each file")
    for file, checksum in sums.items():
        plain = all(map(_is_name, file.split("/"))) and file not in (NAME, SIGNATURE)
        _want("a file", file, plain, "the path of a file in the artifact")
        _want(f"the checksum of {file}", checksum, len(checksum) == 64 and set(checksum) <= hexadecimal, "a SHA-256")


def _check_weight(row: dict[str, Any], sums: Mapping[str, str]) -> None:
    _want("a weight's name", row["name"], isinstance(row["name"], str), "a text")
    _want("a weight's file", row["file"], isinstance(row["file"], str) and row["file"] in sums, "one of the files in sha256")
    _want(f"the dtype of {row['name']}", row["dtype"], _is_dtype(row["dtype"]), "a dtype")
    sizes = isinstance(row["shape"], list) and all(_whole(size, 0) for size in row["shape"])
    _want(f"the shape of {row['name']}", row["shape"], sizes, "a list of sizes")


def _check_entry_point(name: str, entry: dict[str, Any], count: int) -> None:
    symbols = set()
    for part in ("inputs", "outputs"):
        _want(part, entry[part], _all(entry[part], list, dict), "a list of tensors")
        for row in entry[part]:
            _want("a tensor's name", row["name"], isinstance(row["name"], str), "a text")
            _want(f"the dtype of {row['name']}", row["dtype"], _is_dtype(row["dtype"]), "a dtype")
            sizes = isinstance(row["shape"], list) and all(_whole(d, 0) or isinstance(d, str) for d in row["shape"])
            _want(f"the shape of {row['name']}", row["shape"], sizes, "a list of sizes and symbols")
            symbols |= {d for d in row["shape"] if isinstance(d, str)} if part == "inputs" else set()
    _want("ranges", entry["ranges"], _all(entry["ranges"], dict, list), "a pair for each symbol")
    for symbol, pair in entry["ranges"].items():
        fits = len(pair) == 2 and _whole(pair[0], 0) and (pair[1] is None or _whole(pair[1], pair[0]))
        _want(f"the range of {symbol}", pair, fits and symbol in symbols, "the smallest and largest size of a symbol of an input")
    if entry["result"] is not None:
        check_tree(entry["result"], len(entry["outputs"]))
    if entry["call"] is not None:
        check_pairs(entry["call"])
        for _, tree in entry["call"]:
            check_tree(tree, len(entry["inputs"]))
    _want("donate", entry["donate"], _all(entry["donate"], dict, str), "an output for each input")
    given, taken = ({row["name"] for row in entry[part]} for part in ("outputs", "inputs"))
    known = set(entry["donate"]) <= taken and set(entry["donate"].values()) <= given
    _want("donate", entry["donate"], known, "names of inputs and outputs")
    places = entry["weights"]
    fits = isinstance(places, list) and all(_whole(place, 0, count - 1) for place in places)
    _want(f"weights of {name}", places, fits, f"places in the list of {count} weights")


def _want(what: str, value: Any, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"{what} is {value!r:.60}; it must be {expected}")


def _all(values: Any, container: type, kind: type) -> bool:
    """Whether this is a list or dict whose values, and keys as JSON has them, are of one kind."""
    inner: Callable[[], Any] = values.values if isinstance(values, dict) else lambda: values
    return isinstance(values, container) and all(isinstance(value, kind) for value in inner())


def _whole(value: Any, low: int, high: int | None = None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value and (high is None or value <= high)


def _is_name(name: str) -> bool:
    """Whether this names a file or folder in the one that it is in."""
    return name not in ("", ".", "..") and name.isprintable() and not set(name) & {"/", "\\"}


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _is_dtype(name: Any) -> bool:
    return isinstance(name, str) and name in DTYPES
