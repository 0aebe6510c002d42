"""Keep torch out of a process that needs none: TVM imports it where it is installed, which takes a second and 200 MB."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType


class _Absent(MetaPathFinder):
    """Finds no torch. None in `sys.modules` would not do: SciPy takes what stands there for torch."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if fullname.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"{fullname} is kept out of this process", name=fullname)


def without_torch() -> None:
    """Let imports of torch fail in this process, as if it were not installed; call it before TVM is imported."""
    sys.meta_path.insert(0, _Absent())
