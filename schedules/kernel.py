"""What a kernel is: where it applies, how it lays out weights, its TensorIR, and how that is scheduled.

One file of this folder is one kernel, a module-level instance of `Kernel`. To add one, see CONTRIBUTING.md.
"""

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.detection import Detection
from tvm_balanced.encoding import Array, EncodedWeight
from tvm_balanced.pattern import BalancedPattern
from tvm_balanced.schedules.by_rows import EVERY_M, Instance, Range, choose_by_rows, common, without
from tvm_balanced.schedules.decisions import Decisions, Space
from tvm_balanced.schedules.machine import Machine

WORKLOAD_ATTR = "tvm_balanced.workload"


@dataclass(frozen=True)
class Workload:
    """One dense layer as a kernel sees it: y (M, N) = activation(x (M, K) @ weight (N, K)^T + bias (N,) [+ residual (M, N)]).

    Parameters
    ----------
    kernel : str
        Name of the kernel that computes it.
    m : int or None
        Rows of x; None where it is known only at the call.
    n, k : int
        Rows and columns of the weight.
    nnz, block : int
        The pattern that the weight is stored in; equal for a dense weight.
    dtype : str
        Of x, weight, bias and y.
    activation : str
        A name of `epilogue.ACTIVATIONS`.
    residual : bool
        Whether there is a residual.
    tile : int
        Rows of x in a tile where M is symbolic; 0 leaves it to the kernel.
    """

    kernel: str
    m: int | None
    n: int
    k: int
    nnz: int
    block: int
    dtype: str = "float32"
    activation: str = "none"
    residual: bool = False
    tile: int = 0

    @property
    def pattern(self) -> BalancedPattern:
        """The pattern that the weight is stored in."""
        return BalancedPattern(self.nnz, self.block)

    def attach(self, func: tirx.PrimFunc) -> tirx.PrimFunc:
        """Return `func` carrying this workload, so that a schedule can be chosen for it after lowering.

        Its parameter before the last, the residual, is dropped where the workload has none.
        """
        if not self.residual:
            *inputs, _, y = func.params
            func = tirx.PrimFunc([*inputs, y], func.body, func.ret_type, func.attrs)
        func = func.with_attr(WORKLOAD_ATTR, json.dumps(asdict(self)))
        # 8 is kOpaque: FuseTIR would fuse into the function all the same and drop what marks it as ours.
        return func.with_attr("op_pattern", 8)

    @classmethod
    def of(cls, func: tirx.PrimFunc) -> "Workload | None":
        """Return the workload that `func` carries, None where it is not one of our kernels."""
        text = func.attrs.get(WORKLOAD_ATTR) if func.attrs else None
        return None if text is None else cls(**json.loads(str(text)))


def int64(value: int) -> tirx.IntImm:
    """Return a 64-bit constant: a PrimFunc called from Relax must have 64-bit shapes."""
    return tirx.IntImm("int64", value)


@dataclass(frozen=True)
class Rows:
    """How the M rows of x are cut into tiles of `size`, the last of which may be part empty.

    Parameters
    ----------
    m : TIR expression
        M, a constant or a fresh symbolic variable.
    size : int
        Rows in a tile, a constant even where M is symbolic.
    """

    m: Any
    size: int

    @classmethod
    def of(cls, m: int | None, longest: int, symbolic: int) -> "Rows":
        """Cut M into tiles of at most `longest` rows, with as few empty rows as that allows; of `symbolic` rows
        where M is symbolic.
        """
        if m is None:
            return cls(tirx.Var("m", "int64"), symbolic)
        if m <= longest:
            return cls(int64(m), max(m, 1))
        return cls(int64(m), min(range(longest, longest // 2 - 1, -1), key=lambda size: -m % size))

    @property
    def exact(self) -> bool:
        """Whether every tile is known to be full."""
        return isinstance(self.m, tirx.IntImm) and self.m.value % self.size == 0

    @property
    def tiles(self) -> Any:
        """Tiles, a constant or an expression of M."""
        return (self.m + (self.size - 1)) // self.size

    @property
    def known_tiles(self) -> int | None:
        """Tiles, None where M is symbolic."""
        return -(-self.m.value // self.size) if isinstance(self.m, tirx.IntImm) else None

    def at(self, tile: Any, row: Any) -> Any:
        """Row of x that a place in a tile stands for, past the last row where the tile is part empty."""
        return tile * self.size + row

    def read(self, tile: Any, row: Any) -> Any:
        """Row of x to read for a place in a tile: the last row once more where the tile is part empty."""
        return self.at(tile, row) if self.exact else T.min(self.at(tile, row), self.m - 1)


Tuned = Callable[[Workload], Decisions | None]


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does the same in a thread of its own.

    TVM's parser reads the source around every frame that it is called from, and keeps those frames in a cycle: a model that was
    compiled in a function that has returned stayed in memory until Python collected garbage. 40 ms a kernel, where it took 60.
    """

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(function, *args).result()

    return run


class Kernel(ABC):
    """A way to compute one dense layer on one kind of target."""

    name: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]  # what `pack` returns for a weight, by name
    kinds: ClassVar[tuple[str, ...]] = ("llvm",)  # of targets
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)  # of x, weight and y
    # Largest difference to the original model that its rounding of weights may make, as compiler.TOLERANCE; None for a kernel
    # that rounds none. One that does is taken only where it is named.
    tolerance: ClassVar[float | None] = None
    # Where M is symbolic: (first M, last M, rows of x in a tile) of the instances for small M
    small_tiles: ClassVar[tuple[tuple[int, int, int], ...]] = ()

    def __init_subclass__(cls) -> None:
        if "prim_func" in vars(cls):
            setattr(cls, "prim_func", apart(cls.prim_func))  # noqa: B010 - mypy lets no method be assigned to

    @abstractmethod
    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        """Return why this kernel cannot compute such a layer on `target`, None where it can."""

    @abstractmethod
    def pack_bias(self, bias: Array) -> Array:
        """Lay a bias (N,) out for this kernel."""

    @abstractmethod
    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        """Return the unscheduled TensorIR function (x, *packed weight, packed bias[, residual], y)."""

    @abstractmethod
    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        """Schedule this kernel's function by decisions sampled from `sch`, which have their defaults until a search changes them.

        All M are in tiles of the same size. Which instructions are recorded must not depend on the decisions.
        """

    def sampled(self, func: tirx.PrimFunc, workload: Workload, target: tvm.target.Target) -> Space:
        """Return all the schedules that `func`, this kernel's for `workload`, can have on `target`."""
        sch = Schedule(func)
        self.space(sch, workload, target)
        return Space.of(sch, func)

    def schedule_tiles(
        self, func: tirx.PrimFunc, workload: Workload, target: tvm.target.Target, decisions: Decisions | None = None
    ) -> tirx.PrimFunc:
        """Return `func` scheduled for `target`, all M in tiles of the same size, by `decisions` where they are of its space."""
        sch = Schedule(func)
        self.space(sch, workload, target)
        if decisions is None:
            return sch.mod["main"]
        space = Space.of(sch, func)
        return space.replay(decisions) if decisions in space else sch.mod["main"]

    def schedule(
        self, func: tirx.PrimFunc, workload: Workload, target: tvm.target.Target, tuned: Tuned | None = None
    ) -> tirx.PrimFunc:
        """Return `func` scheduled for `target`, small M in smaller tiles.

        Parameters
        ----------
        func : tirx.PrimFunc
            This kernel's for `workload`.
        workload : Workload
        target : tvm.target.Target
        tuned : callable, optional
            From a workload whose M is known to its decisions, or to None for the defaults. Where M is symbolic it is asked for
            the M of the instances; all other M are in default tiles.
        """
        tuned = tuned or (lambda _: None)
        if workload.m is not None:
            return self.schedule_tiles(func, workload, target, tuned(workload))
        instances = self.instances(func, workload, target, EVERY_M, tuned)
        return choose_by_rows(instances, kernels=target.kind.name != "llvm")

    def instances(
        self, func: tirx.PrimFunc, workload: Workload, target: tvm.target.Target, rows: Range, tuned: Tuned
    ) -> list[Instance]:
        """Return what `func`, whose M is symbolic, is scheduled as for the M of `rows`: some small M in smaller tiles, and the
        rest in default tiles, last. Parameters as for `schedule`.
        """
        instances = []
        for tile, ranges in ({} if workload.tile else self.tiles_in(workload, rows)).items():
            smaller, decisions = replace(workload, tile=tile), tuned(replace(workload, m=tile))
            instances.append(Instance(self.schedule_tiles(self.prim_func(smaller), smaller, target, decisions), ranges))
        rest = without(rows, sorted((taken for instance in instances for taken in instance.ranges), key=lambda taken: taken[0]))
        return [*instances, Instance(self.schedule_tiles(func, workload, target), rest)] if rest else instances

    def tiles_in(self, workload: Workload, rows: Range) -> dict[int, tuple[Range, ...]]:
        """Return the smaller tiles that have an instance for some M of `rows`, each with the M that it is for."""
        shared = [(tile, common((first, last), rows)) for first, last, tile in self.small_tiles]
        return {
            tile: tuple(met for other, met in shared if met is not None and other == tile)
            for tile, met in shared
            if met is not None
        }

    @abstractmethod
    def seconds(self, workload: Workload, m: int, machine: Machine) -> float:
        """Model the time of one call with M = m on `machine`; an input of the verdict, not a measurement."""


class SparseKernel(Kernel):
    """A kernel that skips the zeros of an encoded weight."""

    @abstractmethod
    def fit(self, found: Detection) -> BalancedPattern | None:
        """Return the pattern this kernel would store such zeros in, None where it has none that saves anything."""

    @abstractmethod
    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        """Lay a weight out for this kernel.

        The layout depends on dtype and pattern alone, never on a schedule's decisions, so that a tuning log applies
        to packed weights as they are.
        """


class DenseKernel(Kernel):
    """A kernel for a layer whose zeros do not pay."""

    @abstractmethod
    def pack(self, weight: Array) -> tuple[Array, ...]:
        """Lay a weight (N, K) out for this kernel."""
