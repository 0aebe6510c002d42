"""The manifest of an artifact: read, brought to the present format, and checked before anything that it names is opened."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any

from tvm_balanced.core.files import files_below, read_regular
from tvm_balanced.core.generation import Generation
from tvm_balanced.core.loss import OutputLoss
from tvm_balanced.core.report import PrecisionReport
from tvm_balanced.core.structure import check_pairs, check_tree
from tvm_balanced.core.validation import MOST_THREADS
from tvm_balanced.errors import ArtifactError
from tvm_balanced.runtime.manifest_formats import FORMAT, READABLE, upgraded

NAME = "manifest.json"
DTYPES = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 bfloat16".split())


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return the manifest of an artifact as plain data, as the present format has it.

    Raises
    ------
    ArtifactError
        Where none can be read, or where it lists what no artifact has. A manifest that was read names only files inside the
        artifact, each with its checksum.
    """
    path = directory / NAME
    try:
        manifest = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        raise ArtifactError(
            f"{directory} has no readable manifest.json; give a directory that CompiledModule.save wrote", usage=not path.exists()
        ) from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found not in READABLE:
        raise ArtifactError(f"{directory} has format {found}; this version reads formats 2 to {FORMAT}: compile the model again")
    try:
        manifest = upgraded(manifest)
        if "variants" in manifest:
            _check_variants(manifest["variants"])
        else:
            _check_fields(manifest)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise damaged(directory, f"its manifest is damaged: {what}") from None
    return manifest


def damaged(directory: Path, what: str) -> ArtifactError:
    """Return the error for an artifact that cannot be used as it is."""
    return ArtifactError(f"{directory} is not a whole artifact ({what}); copy the artifact again, or compile the model again")


def check_listing(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ArtifactError unless an artifact's folder holds the files that its manifest lists and nothing else.

    Links, devices, fifos and sockets are refused: nothing outside the folder can be read through one, and no read hangs.
    """
    found = files_below(directory) - {NAME}
    if "variants" in manifest:
        listed = set(manifest["variants"])
        found = {PurePosixPath(file).parts[0] for file in found}
    else:
        listed = set(manifest["sha256"])
    for file in sorted(listed - found):
        raise ArtifactError(f"{directory} lacks {file}; copy the artifact again, or compile the model again")
    for file in sorted(found - listed):
        raise ArtifactError(f"{directory} holds {file}, which its manifest does not list; remove it, or compile the model again")


def _check_variants(names: Any) -> None:
    _want("variants", names, isinstance(names, list) and bool(names), "a list of folders")
    for name in names:
        plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}
        _want("a variant", name, plain, "the name of a folder in the artifact")
    _want("variants", names, len(set(names)) == len(names), "each name once")


def _check_fields(manifest: dict[str, Any]) -> None:
    for name in ("target", "source"):
        _want(name, manifest[name], isinstance(manifest[name], str), "a text")
    target = json.loads(manifest["target"])
    _want("target", manifest["target"], isinstance(target, dict) and isinstance(target.get("kind"), str), "a target of TVM")
    _want("features", manifest["features"], _all(manifest["features"], list, str), "a list of texts")
    _want("versions", manifest["versions"], _all(manifest["versions"], dict, str), "a version for each package")
    _want("threads", manifest["threads"], _whole(manifest["threads"], 1, MOST_THREADS), f"a number from 1 to {MOST_THREADS}")
    error = manifest["max_error"]
    number = isinstance(error, (int, float)) and not isinstance(error, bool) and not math.isnan(error)
    _want("max_error", error, error is None or number, "a number or null")
    _check_report(manifest["report"])
    _check_sums(manifest["sha256"])
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


def _check_generation(said: Any, entries: Mapping[str, Any]) -> None:
    _want(
        "generation", said, isinstance(said, dict) and {"prefill", "decode"} <= set(entries), "of entry points prefill and decode"
    )
    _want("generation", said, set(said) == {field.name for field in fields(Generation)}, "the length, batch and chunk of a cache")
    for name in ("length", "batch", "chunk"):
        _want(name, said[name], _whole(said[name], 1), "a whole number from 1 up")
    _want("ends", said["ends"], _all(said["ends"], list, int), "a list of tokens")
    _want("pad", said["pad"], _whole(said["pad"], 0), "a token")
    sizes = {"prefill": [said["batch"], said["chunk"]], "decode": [said["batch"], 1]}
    for name, shape in sizes.items():
        _want(
            f"the tokens of {name}", entries[name]["inputs"][0]["shape"], entries[name]["inputs"][0]["shape"] == shape, str(shape)
        )


def _check_report(report: Any) -> None:
    """Check a report: its three lists of rows; earlier versions wrote the list of layers alone."""
    lists = [report.get(part) for part in ("layers", "operators", "functions")] if isinstance(report, dict) else [report]
    _want("report", report, all(_all(rows, list, dict) for rows in lists), "lists of layers, operators and functions")
    if isinstance(report, dict) and "precision" in report:
        _check_precision(report["precision"])


def _check_precision(said: Any) -> None:
    known = {field.name for field in fields(PrecisionReport)}
    _want("precision", said, isinstance(said, dict) and set(said) == known, "what layers are computed in, and the losses")
    for name in ("losses", "everything"):
        _want(name, said[name], _all(said[name], list, dict), "a list of losses")
        for loss in said[name]:
            _want("a loss", loss, set(loss) == {field.name for field in fields(OutputLoss)}, "the loss of an output")
    _want("rounded", said["rounded"], _all(said["rounded"], list, str), "a list of layers")
    _want("kept", said["kept"], _all(said["kept"], dict, float), "a loss for each layer")


def _check_sums(sums: Any) -> None:
    hexadecimal = set("0123456789abcdef")
    _want("sha256", sums, _all(sums, dict, str), "a checksum for each file")
    for file, checksum in sums.items():
        parts = file.split("/")
        plain = not set(parts) & {"", ".", ".."} and not set(file) & {"\\", "\0"} and file != NAME
        _want("a file", file, plain, "the path of a file in the artifact")
        _want(f"the checksum of {file}", checksum, len(checksum) == 64 and set(checksum) <= hexadecimal, "a SHA-256")
    _want("sha256", sums, "lib.so" in sums, "a checksum of lib.so")


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


def _is_dtype(name: Any) -> bool:
    return isinstance(name, str) and name in DTYPES
