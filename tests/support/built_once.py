"""Code that equals what was built before is not built again in a process of tests.

LLVM takes a third of what compiling a small model takes, and tests compile the same layers again and again: weights are no part
of the code. Code for GPUs is always built, because tests look at what is called while it is.
"""

import tvm

from tvm_balanced.transform.fold_constant import Builds

KEPT = 160  # of one or two MB


class BuiltOnce:
    """In place of `tvm.tirx.build`, which is `build`; `asked` counts the calls, `built` those that found nothing."""

    def __init__(self, build):
        self.asked = self.built = 0
        self._build = build
        self._builds = Builds(self._count, KEPT)

    def __call__(self, mod, target=None, pipeline="default"):
        self.asked += 1
        config = tvm.transform.PassContext.current()
        plain = pipeline == "default" and isinstance(target, tvm.target.Target) and target.kind.name == "llvm"
        if plain and not config.instruments and not dict(config.config):
            return self._builds(mod, target)
        return self._count(mod, target, pipeline)

    def _count(self, *given):
        self.built += 1
        return self._build(*given)


def install():
    """Let this process build what is equal once."""
    if not isinstance(tvm.tirx.build, BuiltOnce):
        tvm.tirx.build = BuiltOnce(tvm.tirx.build)


def always_built(monkeypatch):
    """Let a test build everything: what was built before keeps the functions of Python that it found when it was called."""
    if isinstance(tvm.tirx.build, BuiltOnce):
        monkeypatch.setattr(tvm.tirx, "build", tvm.tirx.build._build)
