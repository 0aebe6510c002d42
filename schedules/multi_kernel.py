"""One function of several kernels, for a layer whose M is known only at the call: each serves a range of M.

Each has a copy of the weight in its own layout. The function takes x, then the packed weight and bias of each, as

    (x, *packed weight and bias of the first, *those of the second, ...[, residual], y)
"""

import itertools
import json
from dataclasses import asdict, dataclass

import tvm
from tvm import tirx

from tvm_balanced.schedules import KERNELS
from tvm_balanced.schedules.base.buckets import EVERY_M, Instance, Range, dispatch_on_m
from tvm_balanced.schedules.base.kernel import Kernel, Tuned
from tvm_balanced.schedules.base.workload import Workload

SHARES_ATTR = "tvm_balanced.shares"


@dataclass(frozen=True)
class Share:
    """The range of M that a kernel serves, and what the layer is for it; where M is known, all there is."""

    workload: Workload
    rows: Range = EVERY_M

    @property
    def kernel(self) -> Kernel:
        """The kernel that serves it."""
        return KERNELS[self.workload.kernel]

    @property
    def weights(self) -> int:
        """How many parameters its packed weight and bias are."""
        return len(self.kernel.parts) + 1

    @property
    def small_tiles(self) -> tuple[int, ...]:
        """Rows of the tiles that it has for small M, where M is symbolic."""
        return tuple(self.kernel.tiles_in(self.workload, self.rows))


def prim_func(shares: tuple[Share, ...]) -> tirx.PrimFunc:
    """Return the unscheduled TensorIR function of a layer's shares, which `schedule` knows again."""
    funcs = [share.kernel.prim_func(share.workload) for share in shares]
    if len(shares) == 1:
        return funcs[0]
    whole = [Instance(_with_all_weights(func, i, funcs, shares), (shares[i].rows,)) for i, func in enumerate(funcs)]
    text = json.dumps([[asdict(share.workload), share.rows] for share in shares])
    return dispatch_on_m(whole).with_attr(SHARES_ATTR, text)


def schedule(func: tirx.PrimFunc, target: tvm.target.Target, tuned: Tuned | None = None) -> tirx.PrimFunc | None:
    """Return a function of `prim_func` scheduled for `target`, None where it is another's; `tuned` as for `Kernel.schedule`."""
    workload = Workload.of(func)
    if workload is None:
        return None
    if SHARES_ATTR not in func.attrs:
        return KERNELS[workload.kernel].schedule(func, workload, target, tuned)
    shares = tuple(Share(Workload(**w), (first, last)) for w, (first, last) in json.loads(str(func.attrs[SHARES_ATTR])))
    funcs = [share.kernel.prim_func(share.workload) for share in shares]
    instances = [
        Instance(_with_all_weights(instance.func, i, funcs, shares), instance.ranges)
        for i, share in enumerate(shares)
        for instance in share.kernel.instances(funcs[i], share.workload, target, share.rows, tuned or (lambda _: None))
    ]
    return dispatch_on_m(instances, kernels=target.kind.name != "llvm")


def _with_all_weights(func: tirx.PrimFunc, place: int, funcs: list[tirx.PrimFunc], shares: tuple[Share, ...]) -> tirx.PrimFunc:
    """Return `func`, a schedule of `funcs[place]`, with the weights of all of `funcs` among its parameters."""
    x, *rest = func.params
    weights = [list(other.params[1 : 1 + share.weights]) for other, share in zip(funcs, shares, strict=True)]
    own = shares[place].weights
    weights[place] = rest[:own]
    return tirx.PrimFunc([x, *itertools.chain(*weights), *rest[own:]], func.body, func.ret_type, func.attrs)
