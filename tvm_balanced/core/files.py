"""Files and directories that appear whole under their names, or not at all."""

import contextlib
import errno
import fcntl
import glob
import io
import json
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tvm_balanced.errors import ArtifactError

SAVING = ".saving"  # ends the name of a directory that is being written
SECONDS_UNTIL_LOCKED = 60  # a directory that is younger may not be locked yet by the process that has made it


def require_free(path: Path) -> None:
    """Raise ArtifactError where `path` exists and is not an empty directory."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ArtifactError(f"{path} exists and is not an empty directory; choose another place, or remove it", usage=True)


def require_writable(path: Path, folder: bool = False) -> None:
    """Raise ArtifactError where nothing can be written at `path`: to be asked before long work, rather than found out after it.

    Parameters
    ----------
    path : Path
        Of a file, whose folder must be there; it may exist.
    folder : bool
        Whether it will be a directory, or a file whose folder is made: then those above it need not be there.
    """
    above = path.absolute().parent
    while folder and not above.exists():
        above = above.parent
    if not above.is_dir():
        why = errno.ENOTDIR if above.exists() else errno.ENOENT
    elif path.is_dir() and not folder:
        why = errno.EISDIR
    elif not os.access(above, os.W_OK | os.X_OK):
        why = errno.EACCES
    else:
        return
    raise ArtifactError(f"{path} cannot be written ({os.strerror(why)}); choose another place")


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file to read it. Raises OSError for a link, a directory, a device, a fifo or a socket, and never waits."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return open(descriptor, "rb")  # noqa: PTH123 (it has no path)
    except OSError:
        os.close(descriptor)
        raise


def read_regular(path: Path) -> bytes:
    """Return what a regular file holds; errors as for `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def parse_json(content: bytes | str) -> Any:
    """Return what a text of JSON says. Raises ValueError, in one sentence, where it is torn, binary or nested too deep."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from None


def files_below(directory: Path) -> set[str]:
    """Return the paths of all files below a directory, relative to it, with slashes.

    Raises
    ------
    ArtifactError
        Where something below it is neither a regular file nor a directory: a link, a device, a fifo.
    """
    found, waiting = set(), [""]
    while waiting:
        inside = waiting.pop()
        for entry in os.scandir(directory / inside):
            path = f"{inside}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                waiting.append(f"{path}/")
            elif entry.is_file(follow_symlinks=False):
                found.add(path)
            else:
                kind = "a symbolic link" if entry.is_symlink() else "neither a file nor a directory"
                raise ArtifactError(f"{directory / path} is {kind}, which no artifact holds; copy it again, with its files")
    return found


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a directory to write in, which becomes `path` if nothing goes wrong and is removed if something does.

    Raises
    ------
    ArtifactError
        Where the place is taken or cannot be written.
    """
    require_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        temporary = Path(tempfile.mkdtemp(suffix=SAVING, prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written ({error.strerror or error}); choose another place") from None
    try:
        with _locked(temporary):
            yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def new_file(path: Path, locked: bool = False) -> Iterator[Path]:
    """Yield a file to write, which becomes `path` if nothing goes wrong and is removed if something does.

    It is there, empty, with the mode of any file made here, and is on disk before it gets its name. Raises OSError.

    Parameters
    ----------
    path : Path
    locked : bool
        Whether the caller holds a lock, so that no other writer is here. Then the file has one name before it gets its own, and
        the next writer removes what a killed one left.
    """
    writer = "" if locked else f".{os.getpid()}.{threading.get_ident()}"
    temporary = path.with_name(f".{path.name}{writer}.new")
    try:
        temporary.unlink(missing_ok=True)  # it may be another user's
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes, locked: bool = False) -> None:
    """Write a file whole or not at all, on disk when this returns; `locked` and errors as for `new_file`."""
    with new_file(path, locked) as temporary:
        temporary.write_bytes(content)


def _sync(folder: Path) -> None:
    """Bring the names of a folder's files to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    """Hold a lock on a directory, which ends with this process at the latest; yield whether it could be had."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except OSError:  # another process has it, or the file system knows no locks
            held = False
        yield held
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    """Remove what a process that was killed while it wrote `path` has left; only writing does this, reading writes nothing."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{SAVING}"):
        with contextlib.suppress(OSError):  # another process was faster, or it is not ours
            if time.time() - left.stat().st_mtime > SECONDS_UNTIL_LOCKED:
                with _locked(left) as abandoned:
                    if abandoned:
                        shutil.rmtree(left)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def is_huggingface(path: Path) -> bool:
    """Whether this is a folder with the config.json of a model of transformers."""
    return path.is_dir() and (path / "config.json").is_file() and not (path / "manifest.json").is_file()
