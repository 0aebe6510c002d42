"""Code that equals what was built before is not built again: in a process of tests, and in those that run beside it.

TVM's passes and LLVM take half of what compiling a small model takes, and tests compile the same layers again and again: weights
are no part of the code. Code for GPUs is always built, because tests look at what is called while it is.
"""

import hashlib
import os
import shutil
import threading
import time
from pathlib import Path

import tvm

from tvm_balanced.compiler.build import CONFIG
from tvm_balanced.transform.fold_constant import Builds

KEPT = 160  # of one or two MB
WORTH = 0.01  # CPU seconds of a build; to write and to find the code of a small one takes two thousandths
ROOM = 4 << 30  # bytes of the disk that stay free


class Shared:
    """A folder of what processes have built: LLVM's code after its optimizations, by what it was built of.

    A file appears whole, by renaming, so no process waits for another; where two build the same at once, one's is kept.
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def place(self, mod, target):
        """The file of a function or module for a target and the passes' settings; TVM's own hash differs between processes."""
        made_of = target, tvm.transform.PassContext.current().config, tvm.ir.save_json(mod)
        return self.folder / hashlib.sha256("\n".join(map(str, made_of)).encode()).hexdigest()

    def find(self, place):
        code = place.with_suffix(".ll")
        return tvm.runtime.load_module(str(code)) if code.exists() else None

    def keep(self, place, built):
        if shutil.disk_usage(self.folder).free < ROOM:
            return
        mine = place.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        built.write_to_file(str(mine), "ll")
        mine.rename(place.with_suffix(".ll"))


class BuiltOnce:
    """In place of `tvm.tirx.build`, which is `build`.

    `asked` counts the calls, `built` those that found nothing, `found` those that found what another process has built.
    """

    def __init__(self, build, shared=None):
        self.asked = self.built = self.found = 0
        self._build, self._shared = build, shared
        self._builds = [Builds(self._find_or_build, KEPT) for _ in ({}, CONFIG)]

    def __call__(self, mod, target=None, pipeline="default"):
        self.asked += 1
        config = tvm.transform.PassContext.current()
        plain = pipeline == "default" and isinstance(target, tvm.target.Target) and target.kind.name == "llvm"
        if plain and not config.instruments and dict(config.config) in ({}, CONFIG):
            return self._builds[dict(config.config) == CONFIG](mod, target)
        return self._count(mod, target, pipeline)

    def _find_or_build(self, mod, target):
        if self._shared is None:
            return self._count(mod, target)
        place = self._shared.place(mod, target)
        found = self._shared.find(place)
        if found is not None:
            self.found += 1
            return found
        before = time.process_time()
        built = self._count(mod, target)
        if time.process_time() - before > WORTH:
            self._shared.keep(place, built)
        return built

    def _count(self, *given):
        self.built += 1
        return self._build(*given)


def install(folder=None):
    """Let this process build what is equal once; with a folder also what others build that have it."""
    if not isinstance(tvm.tirx.build, BuiltOnce):
        tvm.tirx.build = BuiltOnce(tvm.tirx.build, folder and Shared(folder))


def always_built(monkeypatch):
    """Let a test build everything: what was built before keeps the functions of Python that it found when it was called."""
    if isinstance(tvm.tirx.build, BuiltOnce):
        monkeypatch.setattr(tvm.tirx, "build", tvm.tirx.build._build)
