"""Modules of torch.compile's backend, kept for other processes: a folder of artifacts, named by their keys.

    $TORCHINDUCTOR_CACHE_DIR/tvm_balanced, where torch's own caches were given a place; else the folder torch_compile of this
    user's cache. Torch's own default is a folder of /tmp, from which we would not load code.

An artifact gets its name when it is whole, so processes that compile the same at once do no harm: the first one stays. What was
used least recently goes when all take more than LIMIT. To clear it, remove the folder.
"""

import contextlib
import logging
import os
import shutil
import tempfile
from pathlib import Path

from tvm_balanced.errors import TvmBalancedError
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.runtime.host import user_folder
from tvm_balanced.runtime.load import load

PLACE = "TORCHINDUCTOR_CACHE_DIR"
DISABLED = "TORCHINDUCTOR_FORCE_DISABLE_CACHES"
LIMIT = 8 << 30  # bytes
log = logging.getLogger(__name__)


def folder() -> Path | None:
    """Return the folder of the cache, made if it is not there; None where caches are switched off, or others can write to it."""
    if os.environ.get(DISABLED, "0") not in ("", "0"):
        return None
    given = os.environ.get(PLACE)
    place = Path(given, "tvm_balanced") if given else user_folder() / "torch_compile"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = place.stat()
    except OSError as error:
        log.info("nothing is cached: %s cannot be made (%s)", place, error.strerror)
        return None
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        log.warning("nothing is cached: others may write to %s, which holds code; chmod go-w it, or remove it", place)
        return None
    return place


def find(key: str) -> CompiledModule | None:
    """Return the module of a key, None where there is none that can be loaded."""
    place = folder()
    if place is None or not (place / key).is_dir():
        return None
    try:
        module = load(place / key)
        os.utime(place / key)
    except (TvmBalancedError, OSError) as error:  # damaged, or just removed by another process
        log.info("a cached module is compiled anew: %s", error)
        _remove(place / key)
        return None
    return module


def keep(key: str, module: CompiledModule) -> None:
    """Write a module under its key; where that does not work, nothing is kept and one line of the log says why."""
    place = folder()
    if place is None:
        return
    try:
        module.save(place / key)
    except TvmBalancedError as error:  # no C compiler, a full disk, or another process was first
        log.info("a module is not cached: %s", error)
    _trim(place)


def _trim(place: Path) -> None:
    """Remove what was used least recently until the rest fits."""
    with contextlib.suppress(OSError):
        kept = sorted(((path.stat().st_mtime, path) for path in place.iterdir() if not path.name.startswith(".")), reverse=True)
        total = 0
        for _, path in kept:
            total += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            if total > LIMIT:
                _remove(path)


def _remove(path: Path) -> None:
    """Remove an artifact, from its name on, so that no process finds a half of it."""
    with contextlib.suppress(OSError):
        gone = Path(tempfile.mkdtemp(prefix=".removed.", dir=path.parent))
        path.rename(gone / path.name)
        shutil.rmtree(gone, ignore_errors=True)
