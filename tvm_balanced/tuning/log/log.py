"""The tuning log of one target key. The file is append-only and survives a kill at any moment.

    FOLDER/KEY/log.jsonl       a header line that names format and key, then one record a line
    FOLDER/KEY/manifest.json   where it was made: device, features, versions, date, command
    FOLDER/KEY/.lock           held while either is written

A batch of records is one write, and is on disk before `append` returns. If a killed writer left an
unfinished line, the next writer drops it. Readers need no lock: they skip an unfinished line.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock

from tvm_balanced.core.files import parse_json, replace_file
from tvm_balanced.errors import TuningError
from tvm_balanced.tuning.log.record import Read, Record, from_line, to_line

FILE = "log.jsonl"
FORMAT = 1


class Log:
    """The log of `key` in `folder`. Nothing is read or written before a method is called.

    Parameters
    ----------
    folder : Path
        Holds a folder for each target key.
    key : str
        As returned by `targets.target_key`.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder / key, key
        self.path = self.folder / FILE
        self._known: set[bytes] = set()  # lines that this object has read or written

    def exists(self) -> bool:
        """Whether there is a log to read."""
        return self.path.is_file()

    def create(self) -> None:
        """Create the log if it is missing, else check that it is for this key; raises TuningError."""
        with self.writing():
            if not self.exists():
                replace_file(self.path, self._header().encode(), locked=True)
            self._check(self.path.read_bytes())

    def read(self) -> Read:
        """Return all records, without an unfinished last line.

        Raises
        ------
        TuningError
            If the file is not a tuning log, has a newer format, or is for another target key.
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
        """Append records; they are on disk when this returns. Raises TuningError if they cannot be written.

        Returns
        -------
        list of Record
            Records that others have added since this object last read or wrote. They may be
            anywhere in the file, because `rewrite` may have sorted it.
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
        """Replace the records by those that `select` returns for them, completely or not at all.
        Drops damaged lines.
        """
        with self.writing():
            lines = [to_line(record) for record in select(self.read().records)]
            replace_file(self.path, "".join([self._header(), *lines]).encode(), locked=True)

    def _header(self) -> str:
        return json.dumps({"log": "tvm_balanced", "format": FORMAT, "key": self.key}) + "\n"

    def _check(self, content: bytes) -> None:
        """Raise TuningError if this is not the content of one of our logs."""
        line, end, _ = content.partition(b"\n")
        try:
            header = parse_json(line)
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
        """Hold the lock of the log's folder, which is created if missing; raises TuningError if it
        cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                yield
        except OSError as error:
            raise TuningError(f"{self.path} cannot be written ({error.strerror or error}); choose another folder") from error


def _lines(content: bytes) -> list[bytes]:
    """Return the lines after the header, without an unfinished last one."""
    *lines, last = content.split(b"\n")
    return [*lines[1:], *([last] if _whole(last) else [])]


def _parse(lines: Iterable[bytes]) -> Read:
    """Parse lines; the first is number 2 of its file."""
    read = Read()
    for number, line in enumerate(lines, start=2):
        try:
            read.records.append(from_line(line.decode()))
        except ValueError:
            read.damaged.append(number)
    return read


def _whole(line: bytes) -> bool:
    """Whether a last line lacks only its newline."""
    try:
        from_line(line.decode())
    except ValueError:
        return False
    return True


def logs_in(folder: Path) -> list[Log]:
    """Return the logs of all target keys in a folder, by key; raises TuningError if it is not a folder."""
    if not folder.is_dir():
        raise TuningError(f"{folder} is not a folder of tuning logs; name the --work-dir of tune", usage=True)
    if (folder / FILE).is_file():
        raise TuningError(f"{folder} is the folder of one target key; name the folder that it is in, {folder.parent}", usage=True)
    return [Log(folder, path.parent.name) for path in sorted(folder.glob(f"*/{FILE}"))]
