"""The manifest of a tuning log: where it was made, for people and for `logs list`."""

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tvm

from tvm_balanced.core.files import parse_json, replace_file
from tvm_balanced.errors import TuningError
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.target_features import required_features
from tvm_balanced.tuning.log.log import Log

FILE = "manifest.json"
FORMAT = 1


def write(log: Log, target: tvm.target.Target, device: str | None = None) -> None:
    """Write the manifest of a log, completely or not at all; raises TuningError if it cannot be written.

    Parameters
    ----------
    log : Log
    target : tvm.target.Target
        The log's target.
    device : str, optional
        The device that measures; by default this machine's CPU.
    """
    facts = {
        "format": FORMAT,
        "key": log.key,
        "device": device or environment.cpu_name(),
        "target": str(target),
        "features": sorted(required_features(target)),
        "versions": environment.versions(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    _write(log, facts)


def copy(log: Log, into: Log) -> None:
    """Copy the manifest of `log` to `into` if only `log` has one; raises TuningError if it cannot be written."""
    if (into.folder / FILE).exists():
        return
    try:
        facts = read(log)
    except TuningError:
        return  # treated as missing: `logs verify` reports it
    _write(into, facts)


def _write(log: Log, facts: dict[str, Any]) -> None:
    with log.writing():
        replace_file(log.folder / FILE, (json.dumps(facts, indent=1) + "\n").encode(), locked=True)


def read(log: Log) -> dict[str, Any]:
    """Return the manifest of a log as plain data; raises TuningError if it is missing or cannot be read."""
    path = log.folder / FILE
    try:
        facts = parse_json(path.read_bytes())
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']}")
        if facts["key"] != log.key:
            raise ValueError(f"it is for {facts['key']}")
        for name in ("device", "target", "date"):
            if not isinstance(facts.get(name), str):
                raise ValueError(f"it has no {name}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TuningError(f"{path} cannot be read as a manifest ({error}); tune writes it anew") from None
    return dict(facts)
