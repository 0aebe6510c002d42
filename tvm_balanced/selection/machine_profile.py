"""MachineProfile: how far kernels' modelled times are from measured ones on a machine, for verdicts that rest on measurement.

A file holds measured times, of the layers below. What they are over the model's is found when the file is read: a cost model that
has changed since is corrected by what it says now.
"""

import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path

import tvm

from tvm_balanced.core.files import parse_json, replace_file
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import TargetError
from tvm_balanced.runtime.host import user_folder
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import KERNELS, DenseKernel, Kernel, Roofline, Workload
from tvm_balanced.selection.rooflines import roofline_of

FILE = "calibration.json"
FORMAT = 2  # 1 had measured over modelled times, which are of no use once a model has changed

PATTERN = BalancedPattern(2, 16)  # of measured sparse kernels
# For arithmetic: (first M it is used for, N, K, M) of layers that fit the caches. For memory: (N, K, M) of one that does not.
ARITHMETIC = ((1, 768, 3072, 1), (4, 3072, 768, 8), (17, 3072, 768, 24), (32, 3072, 768, 64))
MEMORY = (4096, 4096, 1)
UNLIMITED = 1e9  # an unlimited rate, in 10^9 a second


@dataclass(frozen=True)
class MachineTimes:
    """What kernels took on one thread of a machine.

    Parameters
    ----------
    arithmetic : mapping
        Kernel and dtype ("cpu_avx512 float32") to the seconds of each layer of ARITHMETIC.
    memory : mapping
        Kernel and dtype to the seconds of the layer MEMORY.
    source : str
        Where and when: CPU, versions, date.
    """

    arithmetic: Mapping[str, tuple[float, ...]]
    memory: Mapping[str, float]
    source: str


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

    @classmethod
    def of(cls, target: tvm.target.Target, times: MachineTimes) -> "MachineProfile":
        """Compare what was measured of a target's kernels with their models; a kernel that is gone is left out."""
        machine = roofline_of(target, threads=1)
        no_memory = replace(machine, gbytes=UNLIMITED, gbytes_all=UNLIMITED)
        no_arithmetic = replace(machine, gmacs=UNLIMITED)
        arithmetic, memory = {}, {}
        for name, kernel, dtype in measured_kernels(target):
            if name in times.memory:
                modelled = [modelled_seconds(kernel, dtype, shape, no_memory) for _, *shape in ARITHMETIC]
                factors = [seconds / model for seconds, model in zip(times.arithmetic[name], modelled, strict=True)]
                arithmetic[name] = tuple(zip((first for first, *_ in ARITHMETIC), factors, strict=True))
                memory[name] = times.memory[name] / modelled_seconds(kernel, dtype, MEMORY, no_arithmetic)
        return cls(arithmetic, memory, times.source)

    def knows(self, kernel: str, dtype: str) -> bool:
        """Whether a kernel was measured."""
        return f"{kernel} {dtype}" in self.memory

    def corrected(self, roofline: Roofline, kernel: str, dtype: str, m: int) -> Roofline:
        """Return `roofline` as a kernel finds it at M = m.

        One that was not measured finds it as the others do in the mean: beside one that was, it would seem too fast or too slow.
        """
        name = f"{kernel} {dtype}"
        names = [name] if name in self.memory else list(self.memory)
        arithmetic = _mean(self._arithmetic(one, m) for one in names)
        memory = _mean(self.memory[one] for one in names)
        return replace(
            roofline,
            gmacs=roofline.gmacs / arithmetic,
            gbytes=roofline.gbytes / memory,
            gbytes_all=roofline.gbytes_all / memory,
        )

    def _arithmetic(self, name: str, m: int) -> float:
        return next((factor for first, factor in reversed(self.arithmetic[name]) if m >= first), 1.0)


def measured_kernels(target: tvm.target.Target) -> Iterator[tuple[str, Kernel, str]]:
    """Yield the name, the kernel and the dtype of what a profile of a target has."""
    for kernel in KERNELS.values():
        for dtype in kernel.dtypes:
            if kernel.refuses(target, *MEMORY[:2], dtype) is None:
                yield f"{kernel.name} {dtype}", kernel, dtype


def measured_workload(kernel: Kernel, dtype: str, shape: Iterable[int]) -> Workload:
    """Return what a kernel computes when it is measured on a layer (N, K, M)."""
    n, k, m = shape
    return kernel.workload(m, n, k, None if isinstance(kernel, DenseKernel) else PATTERN, dtype)


def modelled_seconds(kernel: Kernel, dtype: str, shape: Iterable[int], roofline: Roofline) -> float:
    """Return what a layer (N, K, M) is thought to take."""
    workload = measured_workload(kernel, dtype, shape)
    assert workload.m is not None
    return kernel.seconds(workload, workload.m, roofline)


def save(times: MachineTimes, path: Path) -> None:
    """Write what was measured as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"format": FORMAT, **asdict(times)}, indent=1)
    replace_file(path, content.encode())


def load(target: tvm.target.Target) -> MachineProfile | None:
    """Return the machine profile of a target: the user's, else the shipped one, else None.

    Raises
    ------
    TargetError
        Where a file is there and cannot be read.
    """
    path = user_file(target)
    return MachineProfile.of(target, _read(path)) if path.is_file() else _shipped(str(target))


@functools.cache  # each model that is compiled asks for it
def _shipped(target: str) -> MachineProfile | None:
    where = tvm.target.Target(json.loads(target))
    path = Path(str(resources.files("tvm_balanced.tuning_logs") / target_key(where) / FILE))
    return MachineProfile.of(where, _read(path)) if path.is_file() else None


def user_file(target: tvm.target.Target) -> Path:
    """Return where this user's calibration of a target is kept: under $XDG_CACHE_HOME, by default ~/.cache."""
    return user_folder() / target_key(target) / FILE


def _read(path: Path) -> MachineTimes:
    try:
        data = parse_json(path.read_bytes())
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}")
        arithmetic = {str(name): tuple(float(s) for s in seconds) for name, seconds in data["arithmetic"].items()}
        memory = {str(name): float(seconds) for name, seconds in data["memory"].items()}
        times = [*memory.values(), *(seconds for layers in arithmetic.values() for seconds in layers)]
        whole = set(memory) == set(arithmetic) and all(len(layers) == len(ARITHMETIC) for layers in arithmetic.values())
        if not whole or not all(0 < seconds < math.inf for seconds in times):
            raise ValueError("a time that is missing or not positive")
        return MachineTimes(arithmetic, memory, str(data["source"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise TargetError(
            f"{path} cannot be read as a machine profile ({error}); delete it or run tvm-balanced profile-machine"
        ) from None


def _mean(factors: Iterable[float]) -> float:
    """Return the geometric mean, 1 of none."""
    logs = [math.log(factor) for factor in factors]
    return math.exp(sum(logs) / len(logs)) if logs else 1.0
