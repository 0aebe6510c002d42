"""The results folder: files that are appended to as soon as a result is known, and a report of them."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

UNIT_COLUMNS = ("unit", "outcome", "seconds", "note")
DONE, FAILED, DIED = "done", "failed", "died"  # outcomes of a unit
AGAIN = "again"  # instead of an outcome: the unit is to be repeated
MACHINE_UNITS = ("environment", "ceilings")  # these examine the machine; other units rely on their results


class Folder:
    """Results so far.

    environment.json (facts and ceilings), units.csv (what was done), correctness.csv, gpu.csv,
    report.md, and tuning_logs/ of what searches measured.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, name: str, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
        """Append rows to a CSV in one write, so that a killed process leaves whole cells; a new
        file gets a header.
        """
        path, lines = self.path / name, _Lines()
        writer = csv.DictWriter(lines, columns, restval="", lineterminator="\n")
        if not path.exists():
            writer.writeheader()
        writer.writerows(rows)
        with path.open("a") as file:
            file.write("".join(lines))

    def read(self, name: str) -> list[dict[str, str]]:
        """Return the rows of a CSV; none if it does not exist."""
        path = self.path / name
        if not path.exists():
            return []
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    def finish(self, unit: str, outcome: str, seconds: float, note: str = "") -> None:
        """Record how a unit ended."""
        row = {"unit": unit, "outcome": outcome, "seconds": f"{seconds:.1f}", "note": " ".join(note.split())[:400]}
        self.append("units.csv", UNIT_COLUMNS, [row])

    def units(self) -> list[dict[str, str]]:
        """Return the last row of every unit that ended, without units to be repeated."""
        last = {row["unit"]: row for row in self.read("units.csv")}
        return [row for row in last.values() if row["outcome"] != AGAIN]

    def outcomes(self) -> dict[str, str]:
        """Return the last outcome of every unit that ended."""
        return {row["unit"]: row["outcome"] for row in self.units()}

    def retry(self, everything: bool = False) -> None:
        """Let units that failed or died be repeated: those that examine the machine, or all.

        A run does this at its start, not a worker: otherwise a unit whose failure ends its worker
        would be started for ever.
        """
        for unit, outcome in self.outcomes().items():
            if outcome != DONE and (everything or unit in MACHINE_UNITS):
                self.finish(unit, AGAIN, 0)

    def facts(self) -> dict[str, Any]:
        """Return the known facts of the machine."""
        path = self.path / "environment.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def learn(self, facts: Mapping[str, Any]) -> None:
        """Add to the known facts of the machine."""
        (self.path / "environment.json").write_text(json.dumps(self.facts() | dict(facts), indent=2) + "\n")

    @property
    def logs(self) -> Path:
        """The folder of the tuning logs that searches write."""
        return self.path / "tuning_logs"


class _Lines(list[str]):
    """A list that csv can write to."""

    def write(self, text: str) -> int:
        self.append(text)
        return len(text)
