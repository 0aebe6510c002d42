"""What is being measured: a note beside the log, by which a run that is resumed knows the candidate that its process died of.

    FOLDER/KEY/.measuring-RUN.json    the workload and decisions, and how many processes died with them in flight before

A candidate that ends the process, as a compiler that aborts does, would be proposed again by every resumed run.
"""

import json
from dataclasses import asdict
from pathlib import Path

from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decisions

DEATHS = 2  # after which it is the candidate's fault: one may have been a kill


class InFlight:
    """The note of one run.

    Parameters
    ----------
    folder : Path
        Of the log.
    run : str
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._path = folder / f".measuring-{run}.json"
        self._left = self._read()

    def _read(self) -> tuple[str, int] | None:
        """What a process before this one left, and how many processes died of it."""
        try:
            note = json.loads(self._path.read_text())
            return str(note["candidate"]), int(note["deaths"]) + 1
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def begin(self, workload: Workload, decisions: Decisions) -> bool:
        """Note that a candidate is being measured; return False where that has ended DEATHS processes."""
        candidate = json.dumps([asdict(workload), decisions])
        deaths = self._left[1] if self._left is not None and self._left[0] == candidate else 0
        self._path.write_text(json.dumps({"candidate": candidate, "deaths": deaths}))
        return deaths < DEATHS

    def end(self) -> None:
        """Note that nothing is being measured."""
        self._path.unlink(missing_ok=True)
