"""MachineProfile: how far kernels' modelled times are from measured ones on a machine, for verdicts that rest on measurement."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path

import tvm

from tvm_balanced.core.files import parse_json, replace_file
from tvm_balanced.errors import TargetError
from tvm_balanced.runtime.host import user_folder
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import Roofline

FILE = "calibration.json"
FORMAT = 1


@dataclass(frozen=True)
class MachineProfile:
    """Measured over modelled time, of arithmetic and of memory apart, for a layer waits for the slower of the two.

    Parameters
    ----------
    arithmetic : mapping
        Kernel and dtype ("cpu_avx512 float32") to pairs (from which M on, factor), by ascending M.
    memory : mapping
        Kernel and dtype to a factor.
    source : str
        Where and when: CPU, versions, date.
    """

    arithmetic: Mapping[str, tuple[tuple[int, float], ...]]
    memory: Mapping[str, float]
    source: str

    def knows(self, kernel: str, dtype: str) -> bool:
        """Whether a kernel was measured."""
        return f"{kernel} {dtype}" in self.memory

    def corrected(self, roofline: Roofline, kernel: str, dtype: str, m: int) -> Roofline:
        """Return `roofline` as a kernel finds it at M = m; itself if the kernel was not measured."""
        if not self.knows(kernel, dtype):
            return roofline
        name = f"{kernel} {dtype}"
        arithmetic = next((factor for first, factor in reversed(self.arithmetic[name]) if m >= first), 1.0)
        memory = self.memory[name]
        return replace(
            roofline,
            gmacs=roofline.gmacs / arithmetic,
            gbytes=roofline.gbytes / memory,
            gbytes_all=roofline.gbytes_all / memory,
        )


def save(profile: MachineProfile, path: Path) -> None:
    """Write a machine profile as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"format": FORMAT, **asdict(profile)}, indent=1)
    replace_file(path, content.encode())


def load(target: tvm.target.Target) -> MachineProfile | None:
    """Return the machine profile of a target: the user's, else the shipped one, else None.

    Raises
    ------
    TargetError
        Where a file is there and cannot be read.
    """
    shipped = resources.files("tvm_balanced.tuning_logs") / target_key(target) / FILE
    for path in (user_file(target), Path(str(shipped))):
        if path.is_file():
            return _read(path)
    return None


def user_file(target: tvm.target.Target) -> Path:
    """Return where this user's calibration of a target is kept: under $XDG_CACHE_HOME, by default ~/.cache."""
    return user_folder() / target_key(target) / FILE


def _read(path: Path) -> MachineProfile:
    try:
        data = parse_json(path.read_bytes())
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}")
        arithmetic = {str(name): tuple((int(m), float(f)) for m, f in points) for name, points in data["arithmetic"].items()}
        memory = {str(name): float(factor) for name, factor in data["memory"].items()}
        factors = [*memory.values(), *(factor for points in arithmetic.values() for _, factor in points)]
        if set(memory) != set(arithmetic) or not all(factor > 0 for factor in factors):
            raise ValueError("a factor that is missing or not positive")
        return MachineProfile(arithmetic, memory, str(data["source"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise TargetError(
            f"{path} cannot be read as a machine profile ({error}); delete it or run tvm-balanced profile-machine"
        ) from None
