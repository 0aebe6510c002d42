"""The choice of kernels: for one layer, which kernel computes it for which M, and why.

A sparse kernel is taken only where it beats dense for every number of rows that it may meet; where the rows are known only at
the call, several kernels may share them (`break_even`). Times come from the kernels' roofline models, corrected by what was
measured if the target has a machine profile; a kernel that the user names is taken as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import tvm

from tvm_balanced.core.layer_plan import Bucket, DenseLayer, Verdict
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.row_range import EVERY_M, RowRange
from tvm_balanced.errors import TargetError
from tvm_balanced.runtime.target_features import is_gpu
from tvm_balanced.schedules import (
    ALL_KERNELS,
    DenseKernel,
    Kernel,
    Roofline,
    SparseKernel,
    Workload,
    dense_kernels,
    sparse_kernels,
)
from tvm_balanced.selection.break_even import MOST_COPIES, divide, sample
from tvm_balanced.selection.machine_profile import MachineProfile, load
from tvm_balanced.selection.rooflines import roofline_of

# With one copy of a weight for every M, what must win is sparse at these M. On a GPU dense wins from a few hundred rows on,
# whatever the sparsity, and a layer that is sparse for the few rows of decoding is what one compiles there.
ONE_COPY_ROWS_GPU = 32

# Nonzeros that fit a second-level cache of 1 MB, and how many times as fast as memory it is read: 4096x1024 at 2:16 and M = 1
# takes 7 us with cpu_avx512_i8 and 17 us with cpu_avx512_w8, whose weights have as many bytes.
CACHED, CACHE_SPEED = 1 << 19, 8.0

EXACT = Kernel.precision
PrecisionOf = Callable[[str], str]  # from the name of a layer to what it may be computed in
Candidate = tuple[Kernel, BalancedPattern | None]  # a kernel, and what it would store a layer's weight in


class KernelSelector:
    """Gives the verdict on each layer for one target.

    Parameters
    ----------
    target : tvm.target.Target
    roofline : Roofline
        Rates of the target with the threads that will be used.
    kernels : mapping, optional
        Layer name pattern (as in a shell: "encoder.*") to the name of the kernel to use, or "none" to leave the layer to
        TVM; the first that fits counts.
    profile : MachineProfile, optional
        What was measured of the target.
    copies : int
        The most kernels that may share a layer whose M is known only at the call, each with its own copy of the weight.
    precision : callable, optional
        From the name of a layer to what it may be computed in, "float32" (the default), "bfloat16", "int8" or "int4".

    Raises
    ------
    TargetError
        Where `kernels` names an unknown kernel, or one that cannot compute a layer it is named for.
    """

    def __init__(
        self,
        target: tvm.target.Target,
        roofline: Roofline,
        kernels: Mapping[str, str] | None = None,
        profile: MachineProfile | None = None,
        copies: int = MOST_COPIES,
        precision: PrecisionOf | None = None,
    ) -> None:
        self.target, self.roofline, self.profile, self.copies = target, roofline, profile, copies
        self.precision: PrecisionOf = precision or (lambda _layer: EXACT)
        self.kernels = dict(kernels or {})
        self.unused = set(self.kernels)
        for name in self.kernels.values():
            if name not in ALL_KERNELS and name != "none":
                raise TargetError(f'kernel "{name}" is unknown; choose one of {", ".join(ALL_KERNELS)}, or none')

    @classmethod
    def of(
        cls,
        target: tvm.target.Target,
        threads: int | None = None,
        kernels: Mapping[str, str] | None = None,
        copies: int | None = None,
        precision: PrecisionOf | None = None,
    ) -> "KernelSelector":
        """Return the selector for a target with all that is known of it; `threads` are all its cores by default."""
        most = MOST_COPIES if copies is None else copies
        return cls(target, roofline_of(target, threads), kernels, load(target), most, precision)

    def __call__(self, layer: DenseLayer) -> tuple[Bucket, ...]:
        """Return the buckets of one layer: a kernel for each range of its M."""
        for names, name in self.kernels.items():
            if fnmatchcase(layer.name, names):
                self.unused.discard(names)
                return (self._forced(layer, name),)
        allowed = (EXACT, self.precision(layer.name))
        known = [k for k in (*_denses(layer), *_sparses(layer)) if k.precision in allowed and not k.by_name]
        here = [k for k in known if self.target.kind.name in k.kinds]
        denses = [kernel for kernel in here if isinstance(kernel, DenseKernel) and kernel.precision == EXACT]
        others = [kernel for kernel in here if kernel not in denses]
        dense = next((k for k in denses if self._refusal(k.name, layer) is None), None)
        candidates = [candidate for kernel in others if (candidate := self._candidate(kernel, layer)) is not None]
        if dense is None:
            why = self._refusals(denses, layer) or "no kernel of convolutions is for this target"
            return (_bucket(None, None, why, "rule"),)
        if not candidates:
            none = "no pattern of any kernel would save anything"
            why = self._refusals(others, layer) or (none if others else "no sparse kernel of convolutions is for this target")
            why = "the weight has no zeros" if layer.found.sparsity == 0 else why
            return (_bucket(dense.name, None, why, "rule"),)
        return self._divided(layer, candidates, (dense, None))

    def _divided(self, layer: DenseLayer, sparse: Sequence[Candidate], dense: Candidate) -> tuple[Bucket, ...]:
        """Return the buckets of a layer that has kernels besides the dense one to choose from."""
        copies = self.copies if layer.m is None and layer.conv is None else 1
        parts = divide(lambda candidate, m: self._time(layer, candidate, m), sparse, dense, self._rows(layer), copies)
        shared = f", one of {len(parts)} copies of the weight" if len(parts) > 1 else ""
        firsts = [1, *(first for first, _ in parts[1:])]
        lasts = [*(first - 1 for first in firsts[1:]), None]
        buckets = []
        for rows, (_, candidate) in zip(map(RowRange, firsts, lasts), parts, strict=True):
            reason, source, gain = self._weigh(layer, candidate, sparse, dense, rows)
            buckets.append(Bucket(candidate[0].name, candidate[1], rows, Verdict(reason + shared, source, gain)))
        return tuple(buckets)

    def _candidate(self, kernel: Kernel, layer: DenseLayer) -> Candidate | None:
        """Return a kernel with what it would store a layer's weight in; None if it cannot compute the layer, or skips nothing."""
        if self._refusal(kernel.name, layer) is not None:
            return None
        if not isinstance(kernel, SparseKernel):
            return kernel, None
        pattern = kernel.fit(layer.found)
        return None if pattern is None else (kernel, pattern)

    def check_all_used(self) -> None:
        """Raise TargetError where a name in `kernels` was that of no layer, as after a slip of the pen."""
        if self.unused:
            raise TargetError(
                f'kernels names "{min(self.unused)}", which is no dense layer of the model; tvm-balanced inspect lists them'
            )

    def seconds(self, workload: Workload, m: int, in_loop: bool = False) -> float:
        """Return what a kernel is thought to take with `m` rows: modelled, corrected by what was measured. `in_loop` says that
        the layer is computed many times in turn, so that its weight stays in the second-level cache if it fits.
        """
        roofline = self.roofline
        if in_loop and workload.n * workload.k * workload.nnz // workload.block <= CACHED:
            roofline = replace(roofline, gbytes=roofline.gbytes * CACHE_SPEED, gbytes_all=roofline.gbytes_all * CACHE_SPEED)
        if self.profile is not None:
            roofline = self.profile.corrected(roofline, workload.kernel, workload.dtype, m)
        return ALL_KERNELS[workload.kernel].seconds(workload, m, roofline)

    def _refusal(self, name: str, layer: DenseLayer) -> str | None:
        kernel = ALL_KERNELS[name]
        of_shape = kernel.refuses(self.target, layer.n, layer.k, layer.dtype)
        return of_shape if of_shape is not None or layer.conv is None else kernel.refuses_conv(layer.conv)

    def _refusals(self, kernels: Sequence[Kernel], layer: DenseLayer) -> str:
        """Why each of `kernels` refuses a layer; empty where one does not."""
        refusals = [(kernel.name, self._refusal(kernel.name, layer)) for kernel in kernels]
        return "; ".join(f"not {name}: {why}" for name, why in refusals) if all(why for _, why in refusals) else ""

    def _time(self, layer: DenseLayer, candidate: Candidate, m: int) -> float:
        kernel, pattern = candidate
        conv = None if layer.conv is None else layer.conv.flattened()
        return self.seconds(kernel.workload(layer.m, layer.n, layer.k, pattern, layer.dtype, conv=conv), m, layer.in_loop)

    def _weigh(
        self, layer: DenseLayer, candidate: Candidate, sparse: Sequence[Candidate], dense: Candidate, rows: RowRange
    ) -> tuple[str, str, float]:
        """Return why `candidate` is taken for a range of M, how that is known, and its least gain (or the best refused one's)."""
        met = rows.intersect(self._rows(layer)) or rows
        sampled = sample(met)

        def gain(other: Candidate) -> float:
            return min(self._time(layer, dense, m) / self._time(layer, other, m) for m in sampled)

        best = max(sparse, key=gain) if candidate == dense else candidate
        least, (kernel, pattern) = gain(best), best
        source = self._source(layer, kernel.name, dense[0].name)
        bits = "" if kernel.precision == EXACT else f" in {kernel.precision}"
        if candidate == best:
            notes = self._notes(layer, pattern) + (f",{bits}" if bits else "")
            return f"{least:.1f}x faster than dense at {_named(layer.m, met)}{notes}", source, least
        what, where = f"{'dense' if pattern is None else 'sparse'}{bits}", _named(layer.m, met, "some M")
        return f"{what} would take {1 / least:.2f}x the time of dense at {where}{_padding(layer, pattern)}", source, least

    def _rows(self, layer: DenseLayer) -> RowRange:
        """The M at which a layer's kernels are weighed."""
        if layer.m is not None:
            return RowRange(layer.m, layer.m)
        first, last = layer.rows.first, layer.rows.last
        if is_gpu(self.target) and self.copies == 1:
            last = max(first, min(last or ONE_COPY_ROWS_GPU, ONE_COPY_ROWS_GPU))
        return RowRange(first, last)

    def _notes(self, layer: DenseLayer, pattern: BalancedPattern | None) -> str:
        # sparse tensor cores would skip half of these zeros; the kernels here skip all, and use dense ones
        halves = is_gpu(self.target) and layer.found.needed.get(4, 4) <= 2
        return _padding(layer, pattern) + (", 2:4-compatible" if halves else "")

    def _source(self, layer: DenseLayer, *kernels: str) -> str:
        """How the times of `kernels` are known."""
        measured = self.profile is not None and all(self.profile.knows(name, layer.dtype) for name in kernels)
        return "measured" if measured else "modelled"

    def _forced(self, layer: DenseLayer, name: str) -> Bucket:
        if name == "none":
            return _bucket(None, None, "left to TVM as asked", "forced")
        kinds = {kernel.name for kernel in (*_denses(layer), *_sparses(layer))}
        what = "a dense layer" if layer.conv is None else "a convolution"
        refusal = self._refusal(name, layer) if name in kinds else f"it does not compute {what}"
        if refusal is not None:
            raise TargetError(
                f"kernel {name} was asked for on layer {layer.name}, but {refusal}; choose another of {', '.join(ALL_KERNELS)}"
            )
        kernel = ALL_KERNELS[name]
        if not isinstance(kernel, SparseKernel):
            return _bucket(name, None, "dense as asked", "forced")
        pattern = kernel.fit(layer.found)
        if pattern is None:
            dense = next((k.name for k in _denses(layer) if self._refusal(k.name, layer) is None), None)
            return _bucket(dense, None, f"no pattern of {name} would save anything", "forced")
        return _bucket(name, pattern, f"{name} as asked{_padding(layer, pattern)}", "forced")


def _denses(layer: DenseLayer) -> Sequence[DenseKernel]:
    """Return the dense kernels that are for such a layer."""
    return dense_kernels(layer.conv)


def _sparses(layer: DenseLayer) -> Sequence[SparseKernel]:
    """Return the sparse kernels that are for such a layer, those that round included."""
    return sparse_kernels(layer.conv)


def _bucket(kernel: str | None, pattern: BalancedPattern | None, reason: str, source: str) -> Bucket:
    return Bucket(kernel, pattern, EVERY_M, Verdict(reason, source))


def _named(m: int | None, rows: RowRange, every: str = "every M") -> str:
    """Name the M that a verdict is about."""
    if m is not None:
        return f"M = {m}"
    first, last = rows.first, rows.last
    if first == 1:
        return every if last is None else f"{every} up to {last}"
    return f"{every} from {first}" if last is None else f"{every} from {first} to {last}"


def _padding(layer: DenseLayer, pattern: BalancedPattern | None) -> str:
    if pattern is None:
        return ""
    own, padding = layer.found.pattern, layer.found.padding(pattern)
    if padding < 0.005:
        return ""
    return f", its zeros ({own}) stored as {pattern} with {padding:.0%} padding"
