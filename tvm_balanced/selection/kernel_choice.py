"""The verdict: for one layer, which kernel computes it, and why.

A sparse kernel is taken only where it beats dense for every number of rows that it may meet; where the rows are known only at
the call, several kernels may share them (`break_even`). Times come from the kernels' roofline models, corrected by what was
measured where the target has a calibration; a kernel that the user names is taken as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import tvm

from tvm_balanced.core.detection import Detection
from tvm_balanced.core.imported_model import Range
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import TargetError
from tvm_balanced.runtime.target_features import is_gpu
from tvm_balanced.schedules import DENSE_KERNELS, KERNELS, SPARSE_KERNELS, Kernel, Roofline, SparseKernel, Workload
from tvm_balanced.schedules.base.buckets import common
from tvm_balanced.selection.break_even import MOST_COPIES, divide, sample
from tvm_balanced.selection.machine_profile import MachineProfile, load
from tvm_balanced.selection.rooflines import roofline_of

# With one copy of a weight for every M, what must win is sparse at these M. On a GPU dense wins from a few hundred rows on,
# whatever the sparsity, and a layer that is sparse for the few rows of decoding is what one compiles there.
ONE_COPY_ROWS_GPU = 32
EXACT = tuple(kernel for kernel in SPARSE_KERNELS if kernel.tolerance is None)  # those that may be taken without being named


Offer = tuple[Kernel, BalancedPattern | None]  # a kernel, and what it would store a layer's weight in


@dataclass(frozen=True)
class DenseLayer:
    """A dense layer of a model: y (M, N) = x (M, K) @ weight (N, K)^T, and the zeros of its weight.

    `m` is None where the rows are known only at the call; they are then in the range `rows`.
    """

    name: str
    m: int | None
    n: int
    k: int
    dtype: str
    found: Detection
    rows: Range = (1, None)


@dataclass(frozen=True)
class Verdict:
    """Which kernel computes a layer.

    Parameters
    ----------
    kernel : str or None
        None leaves the layer to TVM's own lowering.
    pattern : BalancedPattern or None
        What the weight is stored in; None for a dense kernel.
    reason : str
        One sentence.
    source : str
        "measured" (modelled, corrected by a calibration), "modelled", "forced", or "rule" where there was nothing to weigh.
    speedup : float or None
        Over the dense kernel, smallest over the rows, where it was modelled.
    last : int or None
        Largest M that this holds for; None is no limit.
    above : Verdict or None
        What holds for larger M.
    """

    kernel: str | None
    pattern: BalancedPattern | None
    reason: str
    source: str
    speedup: float | None = None
    last: int | None = None
    above: "Verdict | None" = None

    def by_rows(self) -> "list[tuple[Range, Verdict]]":
        """Return this verdict and those above it, with the range of M of each."""
        parts, first, verdict = [], 1, self
        while verdict.above is not None:
            assert verdict.last is not None
            parts.append(((first, verdict.last), verdict))
            first, verdict = verdict.last + 1, verdict.above
        return [*parts, ((first, None), verdict)]

    @property
    def sparse(self) -> bool:
        """Whether the layer's zeros are skipped."""
        return self.pattern is not None


class KernelSelector:
    """Gives the verdict on each layer for one target.

    Parameters
    ----------
    target : tvm.target.Target
    machine : Roofline
        Rates of the target with the threads that will be used.
    kernels : mapping, optional
        Layer name pattern (as in a shell: "encoder.*") to the name of the kernel to use, or "none" to leave the layer to
        TVM; the first that fits counts.
    calibration : MachineProfile, optional
        What was measured of the target.
    copies : int
        The most kernels that may share a layer whose M is known only at the call, each with its own copy of the weight.

    Raises
    ------
    TargetError
        Where `kernels` names an unknown kernel, or one that cannot compute a layer it is named for.
    """

    def __init__(
        self,
        target: tvm.target.Target,
        machine: Roofline,
        kernels: Mapping[str, str] | None = None,
        calibration: MachineProfile | None = None,
        copies: int = MOST_COPIES,
    ) -> None:
        self.target, self.machine, self.calibration, self.copies = target, machine, calibration, copies
        self.kernels = dict(kernels or {})
        self.unused = set(self.kernels)
        for name in self.kernels.values():
            if name not in KERNELS and name != "none":
                raise TargetError(f'kernel "{name}" is unknown; choose one of {", ".join(KERNELS)}, or none')

    @classmethod
    def of(
        cls,
        target: tvm.target.Target,
        threads: int | None = None,
        kernels: Mapping[str, str] | None = None,
        copies: int | None = None,
    ) -> "KernelSelector":
        """Return the judge for a target with all that is known of it; `threads` are all its cores by default."""
        return cls(target, roofline_of(target, threads), kernels, load(target), MOST_COPIES if copies is None else copies)

    def __call__(self, layer: DenseLayer) -> Verdict:
        """Return the verdict on one layer."""
        for names, name in self.kernels.items():
            if fnmatchcase(layer.name, names):
                self.unused.discard(names)
                return self._forced(layer, name)
        denses = [kernel for kernel in DENSE_KERNELS if self.target.kind.name in kernel.kinds]
        sparses = [kernel for kernel in EXACT if self.target.kind.name in kernel.kinds]
        dense = next((k for k in denses if self._refusal(k.name, layer) is None), None)
        offers = [
            (kernel, pattern)
            for kernel in sparses
            if self._refusal(kernel.name, layer) is None and (pattern := kernel.fit(layer.found)) is not None
        ]
        if dense is None:
            return Verdict(None, None, self._refusals(denses, layer), "rule")
        if not offers:
            why = self._refusals(sparses, layer) or "no pattern of any kernel would save anything"
            why = "the weight has no zeros" if layer.found.sparsity == 0 else why
            return Verdict(dense.name, None, why, "rule")
        return self._divided(layer, offers, (dense, None))

    def _divided(self, layer: DenseLayer, sparse: Sequence[Offer], dense: Offer) -> Verdict:
        """Return the verdict on a layer that has sparse kernels to choose from."""
        copies = self.copies if layer.m is None else 1
        parts = divide(lambda offer, m: self._time(layer, offer, m), sparse, dense, self._rows(layer), copies)
        shared = f", one of {len(parts)} copies of the weight" if len(parts) > 1 else ""
        verdict, last = None, None
        for first, offer in reversed(parts):
            reason, source, gain = self._weigh(layer, offer, sparse, dense, (first, last))
            verdict = Verdict(offer[0].name, offer[1], reason + shared, source, gain, last, verdict)
            last = first - 1
        assert verdict is not None
        return verdict

    def check_all_used(self) -> None:
        """Raise TargetError where a name in `kernels` was that of no layer, as after a slip of the pen."""
        if self.unused:
            raise TargetError(
                f'kernels names "{min(self.unused)}", which is no dense layer of the model; tvm-balanced inspect lists them'
            )

    def seconds(self, workload: Workload, m: int) -> float:
        """Return what a kernel is thought to take with `m` rows: modelled, corrected by what was measured."""
        machine = self.machine
        if self.calibration is not None:
            machine = self.calibration.machine(machine, workload.kernel, workload.dtype, m)
        return KERNELS[workload.kernel].seconds(workload, m, machine)

    def _refusal(self, name: str, layer: DenseLayer) -> str | None:
        return KERNELS[name].refuses(self.target, layer.n, layer.k, layer.dtype)

    def _refusals(self, kernels: Sequence[Kernel], layer: DenseLayer) -> str:
        """Why each of `kernels` refuses a layer; empty where one does not."""
        refusals = [(kernel.name, self._refusal(kernel.name, layer)) for kernel in kernels]
        return "; ".join(f"not {name}: {why}" for name, why in refusals) if all(why for _, why in refusals) else ""

    def _time(self, layer: DenseLayer, offer: Offer, m: int) -> float:
        kernel, pattern = offer
        nnz, block = (pattern.nnz, pattern.block) if pattern else (1, 1)
        return self.seconds(Workload(kernel.name, layer.m, layer.n, layer.k, nnz, block, layer.dtype), m)

    def _weigh(
        self, layer: DenseLayer, offer: Offer, sparse: Sequence[Offer], dense: Offer, rows: Range
    ) -> tuple[str, str, float]:
        """Return why `offer` is taken for a range of M, how that is known, and its least gain, or that of the best refused."""
        met = common(rows, self._rows(layer)) or rows
        sampled = sample(met)

        def gain(other: Offer) -> float:
            return min(self._time(layer, dense, m) / self._time(layer, other, m) for m in sampled)

        best = max(sparse, key=gain) if offer == dense else offer
        least, (kernel, pattern) = gain(best), best
        source = self._source(layer, kernel.name, dense[0].name)
        assert pattern is not None
        if offer == best:
            return f"{least:.1f}x faster than dense at {_named(layer.m, met)}{self._notes(layer, pattern)}", source, least
        where = _named(layer.m, met, "some M")
        return f"sparse would take {1 / least:.2f}x the time of dense at {where}{_padding(layer, pattern)}", source, least

    def _rows(self, layer: DenseLayer) -> Range:
        """The M at which a layer's kernels are weighed."""
        if layer.m is not None:
            return layer.m, layer.m
        first, last = layer.rows
        if is_gpu(self.target) and self.copies == 1:
            last = max(first, min(last or ONE_COPY_ROWS_GPU, ONE_COPY_ROWS_GPU))
        return first, last

    def _notes(self, layer: DenseLayer, pattern: BalancedPattern) -> str:
        # sparse tensor cores would skip half of these zeros; the kernels here skip all, and use dense ones
        halves = is_gpu(self.target) and layer.found.needed.get(4, 4) <= 2
        return _padding(layer, pattern) + (", 2:4-compatible" if halves else "")

    def _source(self, layer: DenseLayer, *kernels: str) -> str:
        """How the times of `kernels` are known."""
        measured = self.calibration is not None and all(self.calibration.knows(name, layer.dtype) for name in kernels)
        return "measured" if measured else "modelled"

    def _forced(self, layer: DenseLayer, name: str) -> Verdict:
        if name == "none":
            return Verdict(None, None, "left to TVM as asked", "forced")
        refusal = self._refusal(name, layer)
        if refusal is not None:
            raise TargetError(
                f"kernel {name} was asked for on layer {layer.name}, but {refusal}; choose another of {', '.join(KERNELS)}"
            )
        kernel = KERNELS[name]
        if not isinstance(kernel, SparseKernel):
            return Verdict(name, None, "dense as asked", "forced")
        pattern = kernel.fit(layer.found)
        if pattern is None:
            dense = next((k.name for k in DENSE_KERNELS if self._refusal(k.name, layer) is None), None)
            return Verdict(dense, None, f"no pattern of {name} would save anything", "forced")
        return Verdict(name, pattern, f"{name} as asked{_padding(layer, pattern)}", "forced")


def _named(m: int | None, rows: Range, every: str = "every M") -> str:
    """Name the M that a verdict is about."""
    if m is not None:
        return f"M = {m}"
    first, last = rows
    if first == 1:
        return every if last is None else f"{every} up to {last}"
    return f"{every} from {first}" if last is None else f"{every} from {first} to {last}"


def _padding(layer: DenseLayer, pattern: BalancedPattern) -> str:
    own, padding = layer.found.pattern, layer.found.padding(pattern)
    if padding < 0.005:
        return ""
    return f", its zeros ({own}) stored as {pattern} with {padding:.0%} padding"
