"""The tuning log of one target key: a file that is only ever appended to, and survives a kill at any moment.

    FOLDER/KEY/log.jsonl       a header line that names format and key, then one record a line
    FOLDER/KEY/manifest.json   where it was made: device, features, versions, date, command
    FOLDER/KEY/.lock           held while either is written

A batch of records is one write, and is on disk before `append` returns. Whoever writes next first drops a line that a killed
writer left unfinished. Readers need no lock: they pass over an unfinished line.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock

from tvm_balanced.core.files import replace_file
from tvm_balanced.errors import TuningError
from tvm_balanced.tuning.log.record import Read, Record, from_line, to_line

FILE = "log.jsonl"
FORMAT = 1


class Log:
    """The log of `key` in `folder`; nothing is touched before a method is called.

    Parameters
    ----------
    folder : Path
        Holds a folder for each target key.
    key : str
        As `targets.target_key` gives it.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder / key, key
        self.path = self.folder / FILE
        self._known: set[bytes] = set()  # lines that were read or written through this object

    def exists(self) -> bool:
        """Whether there is a log to read."""
        return self.path.is_file()

    def create(self) -> None:
        """Make the log where there is none yet, else check that it is one for this key; raises TuningError."""
        with self.writing():
            if not self.exists():
                replace_file(self.path, self._header().encode(), locked=True)
            self._check(self.path.read_bytes())

    def read(self) -> Read:
        """Return all records; an unfinished last line is not there.

        Raises
        ------
        TuningError
            Where the file is no tuning log, of a newer format, or for another target key.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise TuningError(f"{self.path} cannot be read ({error.strerror}); name a folder that tune wrote") from None
        self._check(content)
        lines = _lines(content)
        self._known.update(lines)
        return _parse(lines)

    def append(self, records: Iterable[Record]) -> list[Record]:
        """Add records, on disk when this returns; raises TuningError where they cannot be written.

        Returns
        -------
        list of Record
            What others have added since this object last read or wrote, wherever in the file: `rewrite` may have sorted it.
        """
        text = "".join(to_line(record) for record in records).encode()
        with self.writing(), self.path.open("r+b") as file:
            content = file.read()
            self._check(content)
            keep = content.rfind(b"\n") + 1
            last = content[keep:]
            file.seek(keep)
            file.truncate()
            file.write((last + b"\n" if _whole(last) else b"") + text)
            file.flush()
            os.fsync(file.fileno())
        present = _lines(content)
        others = [line for line in present if line not in self._known]
        self._known.update(present, text.splitlines())
        return _parse(others).records

    def rewrite(self, select: Callable[[list[Record]], list[Record]]) -> None:
        """Replace the records by those that `select` returns for them, whole or not at all; drops damaged lines."""
        with self.writing():
            lines = [to_line(record) for record in select(self.read().records)]
            replace_file(self.path, "".join([self._header(), *lines]).encode(), locked=True)

    def _header(self) -> str:
        return json.dumps({"log": "tvm_balanced", "format": FORMAT, "key": self.key}) + "\n"

    def _check(self, content: bytes) -> None:
        """Raise TuningError where this is not the content of our log."""
        line, end, _ = content.partition(b"\n")
        try:
            header = json.loads(line)
            ours = bool(end) and header["log"] == "tvm_balanced"
        except (ValueError, KeyError, TypeError):
            ours = False
        if not ours:
            raise TuningError(f"{self.path} is not a tuning log of tvm_balanced; choose another folder, or remove the file")
        if header.get("format") != FORMAT:
            raise TuningError(
                f"{self.path} has format {header.get('format')}, this version reads format {FORMAT}; "
                "update tvm_balanced, or choose another folder"
            )
        if header.get("key") != self.key:
            raise TuningError(
                f"{self.path} was made for {header.get('key')}, not for {self.key}, and its schedules would not fit; "
                "give the folder its own name back, or tune on this target"
            )

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock of the log's folder, made where there is none; raises TuningError where it cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                yield
        except OSError as error:
            raise TuningError(f"{self.path} cannot be written ({error.strerror or error}); choose another folder") from error


def _lines(content: bytes) -> list[bytes]:
    """The lines after the header, without an unfinished last one."""
    *lines, last = content.split(b"\n")
    return [*lines[1:], *([last] if _whole(last) else [])]


def _parse(lines: Iterable[bytes]) -> Read:
    """Read lines, the first of which is number 2 of its file."""
    read = Read()
    for number, line in enumerate(lines, start=2):
        try:
            read.records.append(from_line(line.decode()))
        except ValueError:
            read.damaged.append(number)
    return read


def _whole(line: bytes) -> bool:
    """Whether a last line without an end lacks nothing but that."""
    try:
        from_line(line.decode())
    except ValueError:
        return False
    return True


def logs_in(folder: Path) -> list[Log]:
    """Return the logs of all target keys in a folder, by key; raises TuningError where it is no folder."""
    if not folder.is_dir():
        raise TuningError(f"{folder} is not a folder of tuning logs; name the --work-dir of tune")
    if (folder / FILE).is_file():
        raise TuningError(f"{folder} is the folder of one target key; name the folder that it is in, {folder.parent}")
    return [Log(folder, path.parent.name) for path in sorted(folder.glob(f"*/{FILE}"))]
