"""Manifests of earlier formats, as the present one has them."""

from collections.abc import Mapping
from typing import Any

from tvm_balanced.core.files import parse_json
from tvm_balanced.core.structure import Tree

FORMAT = 5
READABLE = (2, 3, 4, FORMAT)
SEALED_FROM = 5  # the first format with a checksum of the manifest


def upgraded(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of any format that is read as the present one.

    Format 2 had one entry point, with its inputs and outputs in place of "entry_points". Up to format 3 the nesting of outputs
    was text of torch's pytree, and that of inputs was not kept. Up to format 4 variants shared no folder, and no self-test was
    stored.

    Raises
    ------
    KeyError, TypeError, ValueError
        Where it is damaged.
    """
    if manifest["format"] == 2:
        manifest = _from_format_2(manifest)
    if manifest["format"] == 3:
        manifest = _from_format_3(manifest)
    if manifest["format"] == 4 and "variants" in manifest:
        manifest = manifest | {"format": FORMAT, "sha256": {}}
    return manifest if "variants" in manifest else {"shared": {}} | manifest | {"format": FORMAT}


def _from_format_2(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return it as format 3 has it: with its one entry point, which takes all weights."""
    parts = ("inputs", "outputs", "ranges", "structure")
    if not set(parts) <= set(manifest):  # one that lists variants, or is damaged
        return manifest | {"format": 3}
    main = {part: manifest[part] for part in parts} | {"donate": {}, "weights": list(range(len(manifest["weights"])))}
    return {key: value for key, value in manifest.items() if key not in parts} | {"format": 3, "entry_points": {"main": main}}


def _from_format_3(manifest: dict[str, Any]) -> dict[str, Any]:
    if "entry_points" not in manifest:
        return manifest | {"format": 4}
    entries = {}
    for name, entry in manifest["entry_points"].items():
        kept = {key: value for key, value in entry.items() if key != "structure"}
        entries[name] = kept | {"call": None, "result": _result(entry["structure"], len(entry["outputs"]))}
    return manifest | {"format": 4, "entry_points": entries}


def _result(structure: Any, count: int) -> Tree | None:
    """Return what torch's text of a pytree says: [1, {"type": ..., "context": ..., "children_spec": [...]}]."""
    if structure is None:
        return None
    if not isinstance(structure, str):
        raise ValueError(f"structure is {structure!r:.60}; it must be a text or null")
    places = iter(range(count))
    tree = _tree(parse_json(structure)[1], places)
    if next(places, None) is not None:
        raise ValueError("structure has fewer tensors than there are outputs")
    return tree


def _tree(spec: Mapping[str, Any], places: Any) -> Tree:
    kind = spec["type"]
    if kind is None:
        place = next(places, None)
        if place is None:
            raise ValueError("structure has more tensors than there are outputs")
        return {"tensor": place}
    parts = [_tree(child, places) for child in spec["children_spec"]]
    if kind in ("builtins.tuple", "builtins.list"):
        return {kind.rpartition(".")[2]: parts}
    context = parse_json(spec["context"])
    keys = (
        context[0] if context and isinstance(context[0], list) else context
    )  # of a dataclass: its fields, and those that are None
    keys = keys if isinstance(keys, list) and len(keys) == len(parts) else [f"field_{place}" for place in range(len(parts))]
    pairs = [[key, part] for key, part in zip(keys, parts, strict=True)]
    if kind in ("builtins.dict", "collections.OrderedDict"):
        return {"dict": pairs}
    return {"class": kind, "fields": [[str(key), part] for key, part in pairs]}
