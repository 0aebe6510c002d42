"""What a kernel is: where it applies, how it lays out weights, its TensorIR, and how that is scheduled.

One file of this folder is one kernel, a module-level instance of `Kernel`. To add one, see CONTRIBUTING.md.
"""

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, ClassVar

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.detection import Detection
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.library_functions import DENSE
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import EVERY_M, RowRange
from tvm_balanced.schedules.base.buckets import Specialization, dispatch_on_m
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.rounding import split_rounding
from tvm_balanced.schedules.base.script_parsing import quick_parsing
from tvm_balanced.schedules.base.space import FORM_ATTR, Decision, Decisions, Part, Space, form_of
from tvm_balanced.schedules.base.workload import WORKLOAD_ATTR, Workload

Tuned = Callable[[Workload], Decisions | None]


EVALUATED = "<ast>"  # the file of what TVM's parser evaluates
KEPT = 256  # functions of 64 KB: a model has few shapes, and a process compiles alike models
_keeps: ContextVar[bool] = ContextVar("keeps", default=False)


@contextmanager
def built_once() -> Iterator[None]:
    """Build the TensorIR of each workload once for all models of the process whose layers are built within this block.

    Elsewhere it is built whenever it is asked for, so that what a benchmark or a test changes of a kernel has an effect.
    """
    token = _keeps.set(True)
    try:
        yield
    finally:
        _keeps.reset(token)


def _build_once(prim_func: Callable[..., tirx.PrimFunc]) -> Callable[..., tirx.PrimFunc]:
    """Return a kernel's `prim_func` that remembers what it built inside `built_once`, and runs in a thread of its own.

    TVM's parser reads the source around every frame that it is called from, and keeps those frames in a cycle, so that a model
    that was compiled in a function that has returned stays in memory until Python collects garbage. A fresh thread has no frames
    but its own; it is also faster, 40 ms a kernel instead of 60. For frames from no file `inspect` walks all modules, unless its
    cache names theirs: a third of the time where torch and transformers are loaded.
    """
    inspect.modulesbyfile.setdefault(EVALUATED, "")

    @functools.wraps(prim_func)
    def run(self: Any, workload: Workload) -> tirx.PrimFunc:
        return (kept if _keeps.get() else _build)(prim_func, self, workload)

    return run


def _in_thread(function: Callable[..., tirx.PrimFunc]) -> Callable[..., tirx.PrimFunc]:
    """Return a method that writes a function, run in a thread of its own; see `_build_once`."""

    @functools.wraps(function)
    def run(*given: Any) -> tirx.PrimFunc:
        return _parsed(function, *given)

    return run


def _build(prim_func: Callable[..., tirx.PrimFunc], kernel: "Kernel", workload: Workload) -> tirx.PrimFunc:
    whole = _parsed(prim_func, kernel, replace(workload, rounded=False))
    if not workload.rounded:
        return whole
    parts = split_rounding(whole)
    if parts is None:
        raise ValueError(f"{workload.kernel} does not begin with the rounding of x, so that it cannot be given rounded rows")
    return parts[1].with_attr(WORKLOAD_ATTR, workload.to_attr())


def _parsed(function: Callable[..., tirx.PrimFunc], *given: Any) -> tirx.PrimFunc:
    """Return what a function writes in TVMScript, in a thread of its own."""

    def parse() -> tirx.PrimFunc:
        with quick_parsing():
            return function(*given)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(parse).result()


kept = functools.lru_cache(KEPT)(_build)


class Kernel(ABC):
    """A way to compute one dense layer on one kind of target."""

    name: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]  # what `pack` returns for a weight, by name
    kinds: ClassVar[tuple[str, ...]] = ("llvm",)  # of targets
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)  # of x, weight and y
    # What it computes float32 layers in: "float32", "bfloat16" or "int8". One that rounds is taken only where a model's precision
    # allows it, or where it is named.
    precision: ClassVar[str] = "float32"
    # Largest difference to the original model that its rounding of weights may make, as compiler.TOLERANCE; None if it does not
    tolerance: ClassVar[float | None] = None
    # Whether it is taken only where it is named, whatever its model says: one that has never run
    by_name: ClassVar[bool] = False
    # Where M is symbolic: (first M, last M, rows of x in a tile) of the specializations for small M
    small_tiles: ClassVar[tuple[tuple[int, int, int], ...]] = ()
    # The function of `core/library_functions.py` that is asked before this kernel runs, where `row_stride` says that it may be
    library: ClassVar[str] = DENSE

    def __init_subclass__(cls) -> None:
        if "prim_func" in vars(cls):
            setattr(cls, "prim_func", _build_once(cls.prim_func))  # noqa: B010 - mypy lets no method be assigned to
        if "in_form" in vars(cls):
            setattr(cls, "in_form", _in_thread(cls.in_form))  # noqa: B010

    def workload(
        self, m: int | None, n: int, k: int, pattern: BalancedPattern | None, dtype: str = "float32", **epilogue: Any
    ) -> Workload:
        """Return a layer as this kernel sees it.

        Parameters
        ----------
        m, n, k, dtype
            As Workload has them.
        pattern : BalancedPattern or None
            What the weight is stored in; None for a dense kernel.
        **epilogue
            Activation and residual, as Workload has them.
        """
        nnz, block = (pattern.nnz, pattern.block) if pattern else (1, 1)
        return Workload(self.name, m, n, k, nnz, block, dtype, **epilogue)

    @abstractmethod
    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        """Say why this kernel cannot compute a layer.

        Called for each layer of a model before one is chosen, and by the tuner and the benchmarks. It answers for every M, every
        pattern that `fit` returns, and every activation: what it does not refuse, all other methods must take.

        Parameters
        ----------
        target : tvm.target.Target
            Of any kind, also of one that this kernel is not for.
        n, k : int
            Rows and columns of the weight, at least 1.
        dtype : str
            Of x, weight and y; a kernel refuses any that is not one of its `dtypes`.

        Returns
        -------
        str or None
            What a report says after "not NAME: ", without a full stop; None if it can compute the layer. Raises nothing.
        """

    def refuses_conv(self, _conv: Convolution) -> str | None:
        """Say why this kernel, one of convolutions, cannot compute one of this geometry, as `refuses` does."""
        return None

    @abstractmethod
    def pack_bias(self, bias: Array) -> Array:
        """Lay a bias out for this kernel.

        Called once for each bias of a model, while it is compiled. A layer without a bias has one of zeros.

        Parameters
        ----------
        bias : array (N,)
            Of the layer's dtype. It is not changed.

        Returns
        -------
        array
            Of the shape and dtype of `prim_func`'s parameter after the packed weight. It is added in float32.
        """

    @abstractmethod
    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        """Return the function that computes a layer, not scheduled yet.

        Called for each distinct workload of a model, and by the tuner, in a thread of its own; what it returns is kept for other
        models (`built_once`), so that it must depend on the workload alone, not on a target.

        Parameters
        ----------
        workload : Workload
            Of this kernel, which does not refuse it. If its `m` is None, M is a symbolic int64 variable, and rows of x are cut
            into tiles of `tile`, or of the kernel's own size if that is 0.

        Returns
        -------
        tirx.PrimFunc
            Private, of S-TIR with declared regions and int64 shapes, and with the workload attached (`Workload.attach`). Its
            parameters: x (M, K), the arrays of `pack` in the order of `parts`, that of `pack_bias`, the residual (M, N) if the
            workload has one, and y (M, N), which it writes as a whole; x, residual and y are of the workload's dtype. Where a
            tile goes past the last row, it reads that row again and stores nothing. Of a convolution, x is (batch, channels *
            size), residual and y are (batch, N * outputs).

        Raises
        ------
        Exception
            KeyError, or what TVM's parser makes of it, if the workload's activation is not in `activations.ACTIVATIONS`.
        """

    @abstractmethod
    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        """Schedule this kernel's function by decisions sampled from `sch`, which have their defaults until a search changes them.

        Called for each function that a model gets, and for each M that it is specialized for; by the tuner once, which replays
        what was recorded with other decisions. All M are in tiles of the same size. Which instructions are recorded must not
        depend on the decisions: `Space.fingerprint` tells logs of other instructions apart.

        Parameters
        ----------
        sch : Schedule
            Of what `prim_func` returned for `workload`; it is changed in place. A decision is `sample_categorical` or
            `sample_perfect_tile` with a `decision`, the default.
        workload : Workload
        target : tvm.target.Target
            That this kernel does not refuse; its features may decide the schedule, too.

        Raises
        ------
        ScheduleError
            TVM's, if a step does not apply; with the default decisions that is a fault of the kernel.
        """

    def forms(self, _workload: Workload, _target: tvm.target.Target) -> tuple[Decision, ...]:
        """Return what a search may choose of the function itself, and not of its schedule: the numbers of each form that
        `in_form` writes, the one that `prim_func` writes among them. Empty if that is the only one.

        All forms have the parameters of `prim_func`, and compute the same up to the order of sums.
        """
        return ()

    def in_form(self, workload: Workload, _form: Decision) -> tirx.PrimFunc:
        """Return what `prim_func` does, in one of `forms`, whose numbers it carries as `FORM_ATTR`."""
        return self.prim_func(workload)

    def sampled(self, func: tirx.PrimFunc, workload: Workload, target: tvm.target.Target) -> Space:
        """Return all the schedules that `func`, this kernel's for `workload`, can have on `target`, in all of its forms."""
        own = form_of(func)

        def part(form: Decision) -> Part:
            made = func if not form or form == own else self._like(func, self.in_form(workload, form))
            sch = Schedule(made)
            self.space(sch, workload, target)
            return Part.of(sch, made)

        return Space(() if own is None else tuple(dict.fromkeys([own, *self.forms(workload, target)])), part)

    def _like(self, func: tirx.PrimFunc, other: tirx.PrimFunc) -> tirx.PrimFunc:
        """Return another form of `func` with its attributes, such as its name."""
        return other.with_attrs({name: value for name, value in func.attrs.items() if name != FORM_ATTR})

    def schedule_tiles(
        self, func: tirx.PrimFunc, workload: Workload, target: tvm.target.Target, decisions: Decisions | None = None
    ) -> tirx.PrimFunc:
        """Return `func` scheduled for `target`, all M in tiles of the same size, by `decisions` where they are of its space."""
        if decisions is not None and decisions in (space := self.sampled(func, workload, target)):
            return space.replay(decisions)
        sch = Schedule(func)
        self.space(sch, workload, target)
        return sch.mod["main"]

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
            From a workload whose M is known to its decisions, or to None for the defaults. If M is symbolic it is asked for
            the M of the specializations; all other M are in default tiles.
        """
        tuned = tuned or (lambda _: None)
        if workload.m is not None:
            return self.schedule_tiles(func, workload, target, tuned(workload))
        specializations = self.specializations(func, workload, target, EVERY_M, tuned)
        return dispatch_on_m(specializations, kernels=target.kind.name != "llvm")

    def specializations(
        self, func: tirx.PrimFunc, workload: Workload, target: tvm.target.Target, rows: RowRange, tuned: Tuned
    ) -> list[Specialization]:
        """Return what `func`, whose M is symbolic, is scheduled as for the M of `rows`: some small M in smaller tiles, and the
        rest in default tiles, last. Parameters as for `schedule`.
        """
        made = []
        for tile, ranges in ({} if workload.tile else self.tiles_in(workload, rows)).items():
            smaller, decisions = replace(workload, tile=tile), tuned(replace(workload, m=tile))
            made.append(Specialization(self.schedule_tiles(self.prim_func(smaller), smaller, target, decisions), ranges))
        rest = rows.minus(taken for special in made for taken in special.ranges)
        return [*made, Specialization(self.schedule_tiles(func, workload, target), rest)] if rest else made

    def tiles_in(self, workload: Workload, rows: RowRange) -> dict[int, tuple[RowRange, ...]]:
        """Return the smaller tiles that have a specialization for some M of `rows`, each with the M that it is for."""
        shared = [(tile, RowRange(first, last).intersect(rows)) for first, last, tile in self.small_tiles]
        return {
            tile: tuple(met for other, met in shared if met is not None and other == tile)
            for tile, met in shared
            if met is not None
        }

    @abstractmethod
    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        """Model the time of one call; an input of the verdict, not a measurement.

        Called while the kernels for a layer are compared, for several M if it is symbolic, so that it only calculates. A machine
        profile corrects it by what it measured of the kernel.

        Parameters
        ----------
        workload : Workload
            Of this kernel. Its `m` tells only whether M is symbolic, and so in other tiles.
        m : int
            Rows of x, at least 1.
        roofline : Roofline
            Of the machine that the layer will run on, for the threads that a call may use.

        Returns
        -------
        float
            Seconds, above 0; growing with m, but for the steps that tiles make. Raises nothing.
        """

    def row_stride(self, _workload: Workload) -> int | None:
        """Return the elements from one row of the packed weight to the next, if it lies as rows of K elements of the
        workload's dtype, and the bias as N of them: then a library can read them, too. None if it does not.
        """
        return None

    def library_arguments(self, _workload: Workload, _target: tvm.target.Target) -> tuple[int, ...]:
        """Return what the function `library` is told besides the shape."""
        return ()


class SparseKernel(Kernel):
    """A kernel that skips the zeros of an encoded weight."""

    @abstractmethod
    def fit(self, found: Detection) -> BalancedPattern | None:
        """Choose the pattern that this kernel stores a weight in.

        Called for each layer that the kernel does not refuse, before one is chosen.

        Parameters
        ----------
        found : Detection
            What the zeros of a weight (N, K) look like.

        Returns
        -------
        BalancedPattern or None
            One that covers the weight and that `pack` takes, of those the one with which this kernel is fastest; None if none
            saves anything, and the layer stays dense. Raises nothing.
        """

    @abstractmethod
    def pack(self, weight: EncodedWeight) -> tuple[Array, ...]:
        """Lay a weight out for this kernel.

        Called once for each distinct weight of a model, while it is compiled; calls that share a weight share its packed form.
        The layout depends on dtype and pattern alone, never on a schedule's decisions, so that a tuning log applies to packed
        weights as they are.

        Parameters
        ----------
        weight : EncodedWeight
            Of a shape (N, K) and dtype that this kernel does not refuse, in a pattern that `fit` returned. It is not changed.

        Returns
        -------
        tuple of arrays
            One for each of `parts`, of the shapes and dtypes of `prim_func`'s parameters after x. Raises nothing.
        """

    def pack_for(self, weight: EncodedWeight, _workload: Workload) -> tuple[Array, ...]:
        """Lay a weight out for a workload: as `pack` does, unless the layout depends on the taps of a convolution."""
        return self.pack(weight)


class DenseKernel(Kernel):
    """A kernel for a layer whose zeros do not pay."""

    @abstractmethod
    def pack(self, weight: Array) -> tuple[Array, ...]:
        """Lay a weight out for this kernel.

        Called once for each distinct weight of a model, while it is compiled. The layout depends on dtype and shape alone.

        Parameters
        ----------
        weight : array (N, K)
            Of a shape and dtype that this kernel does not refuse. It is not changed, but may be returned as it is.

        Returns
        -------
        tuple of arrays
            One for each of `parts`, of the shapes and dtypes of `prim_func`'s parameters after x. Raises nothing.
        """

    def pack_for(self, weight: Array, _workload: Workload) -> tuple[Array, ...]:
        """Lay a weight out for a workload: as `pack` does, unless the layout depends on the taps of a convolution."""
        return self.pack(weight)
