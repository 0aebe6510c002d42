"""A note beside the log of the candidate being measured. A resumed run learns from it which
candidate crashed its process.

    FOLDER/KEY/.measuring-RUN.json    the workload and decisions, and how many processes died with them in flight before

Every resumed run would otherwise propose a candidate again that ends the process, for instance by
aborting the compiler.
"""

import json
from dataclasses import asdict
from pathlib import Path

from tvm_balanced.core.files import parse_json
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decisions

DEATHS = 2  # after so many, the candidate is to blame: a single one may have been a kill


class InFlight:
    """The note of one run.

    Parameters
    ----------
    folder : Path
        The log's folder.
    run : str
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._path = folder / f".measuring-{run}.json"
        self._left = self._read()

    def _read(self) -> tuple[str, int] | None:
        """The note that an earlier process left, and how many processes died of it."""
        try:
            note = parse_json(self._path.read_bytes())
            return str(note["candidate"]), int(note["deaths"]) + 1
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None

    def begin(self, workload: Workload, decisions: Decisions) -> bool:
        """Note that a candidate is being measured; return False if it has ended DEATHS processes."""
        candidate = json.dumps([asdict(workload), decisions])
        deaths = self._left[1] if self._left is not None and self._left[0] == candidate else 0
        self._path.write_text(json.dumps({"candidate": candidate, "deaths": deaths}))
        return deaths < DEATHS

    def end(self) -> None:
        """Note that nothing is being measured."""
        self._path.unlink(missing_ok=True)
