"""One function of several kernels, for a layer whose M is known only at the call: each kernel serves a range of M.

Each has a copy of the weight in its own layout. The function takes x, then the packed weight and bias of each, as

    (x, *packed weight and bias of the first, *those of the second, ...[, residual], y)
"""

import itertools
from dataclasses import dataclass

import tvm
from tvm import tirx

from tvm_balanced.core.row_range import EVERY_M, RowRange
from tvm_balanced.schedules import ALL_KERNELS
from tvm_balanced.schedules.base.buckets import Specialization, dispatch_on_m
from tvm_balanced.schedules.base.kernel import Kernel, Tuned
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.library_call import prefer_library

VARIANTS_ATTR = "tvm_balanced.variants"  # of a PrimFunc of several kernels: a workload and a range of M for each


@dataclass(frozen=True)
class Variant:
    """What a layer is for one of its kernels, and the range of M that the kernel serves; every M if M is known."""

    workload: Workload
    rows: RowRange = EVERY_M

    @property
    def kernel(self) -> Kernel:
        """The kernel that serves it."""
        return ALL_KERNELS[self.workload.kernel]

    @property
    def weights(self) -> int:
        """How many parameters its packed weight and bias are."""
        return len(self.kernel.parts) + 1

    @property
    def small_tiles(self) -> tuple[int, ...]:
        """Rows of the tiles that it has for small M, if M is symbolic."""
        return tuple(self.kernel.tiles_in(self.workload, self.rows))


def prim_func(variants: tuple[Variant, ...]) -> tirx.PrimFunc:
    """Return the unscheduled TensorIR function of a layer's variants, which `schedule` knows again."""
    funcs = [variant.kernel.prim_func(variant.workload) for variant in variants]
    if len(variants) == 1:
        return funcs[0]
    whole = [Specialization(_with_all_weights(func, i, funcs, variants), (variants[i].rows,)) for i, func in enumerate(funcs)]
    attr = [{"workload": v.workload.to_attr(), "first": v.rows.first, "last": v.rows.last or 0} for v in variants]
    return dispatch_on_m(whole).with_attr(VARIANTS_ATTR, attr)


def schedule(
    func: tirx.PrimFunc, target: tvm.target.Target, tuned: Tuned | None = None, library: bool = False
) -> tirx.PrimFunc | None:
    """Return a function of `prim_func` scheduled for `target`, None if it is another's.

    `tuned` is as for `Kernel.schedule`. With `library`, dense layers ask a library of the process first (`library_call`).
    """
    workload = Workload.of(func)
    if workload is None:
        return None
    if VARIANTS_ATTR not in func.attrs:
        kernel = ALL_KERNELS[workload.kernel]
        scheduled = kernel.schedule(func, workload, target, tuned)
        return prefer_library(scheduled, kernel, workload, target) if library else scheduled
    variants = tuple(
        Variant(Workload.from_attr(part["workload"]), RowRange(int(part["first"]), int(part["last"]) or None))
        for part in func.attrs[VARIANTS_ATTR]
    )
    funcs = [variant.kernel.prim_func(variant.workload) for variant in variants]
    specializations = []
    for i, variant in enumerate(variants):
        for special in variant.kernel.specializations(
            funcs[i], variant.workload, target, variant.rows, tuned or (lambda _: None)
        ):
            done = prefer_library(special.func, variant.kernel, variant.workload, target) if library else special.func
            specializations.append(Specialization(_with_all_weights(done, i, funcs, variants), special.ranges))
    return dispatch_on_m(specializations, kernels=target.kind.name != "llvm")


def _with_all_weights(
    func: tirx.PrimFunc, place: int, funcs: list[tirx.PrimFunc], variants: tuple[Variant, ...]
) -> tirx.PrimFunc:
    """Return `func`, a schedule of `funcs[place]`, with the weights of all of `funcs` among its parameters."""
    x, *rest = func.params
    weights = [list(other.params[1 : 1 + v.weights]) for other, v in zip(funcs, variants, strict=True)]
    own = variants[place].weights
    weights[place] = rest[:own]
    return tirx.PrimFunc([x, *itertools.chain(*weights), *rest[own:]], func.body, func.ret_type, func.attrs)
