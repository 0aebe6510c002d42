"""What a rule is: a way to schedule functions of TVM's own operators, those that no kernel of ours computes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import tvm
import tvm_ffi
from tvm import sym, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.dlight.analysis import SBlockInfo, normalize_prim_func

from tvm_balanced.schedules.machine import lanes

# Below this many elements a loop costs less than waking the threads, about 5 us.
PARALLEL_FROM = 16384


class Rule(ABC):
    """One way to schedule a function."""

    name: ClassVar[str]

    @abstractmethod
    def apply(self, func: tirx.PrimFunc, target: tvm.target.Target) -> tirx.PrimFunc | None:
        """Return `func` scheduled for `target`, None where this rule is not for such functions."""


def analyse(func: tirx.PrimFunc) -> tuple[Schedule, list[SBlockInfo]] | None:
    """Return a schedule of `func` and its blocks in order, None where they have another form than loops over blocks."""
    sch = Schedule(func)
    blocks = normalize_prim_func(sch)
    return None if not blocks else (sch, blocks)


def extent(sch: Schedule, loop: Any) -> int | None:
    """Return a loop's trip count, None where it is symbolic."""
    count = sch.get(loop).extent
    return int(count) if isinstance(count, (int, tirx.IntImm)) else None


def work(sch: Schedule, block: Any) -> int | None:
    """Return how often a block runs, None where it is symbolic."""
    total = 1
    for loop in sch.get_loops(block):
        count = extent(sch, loop)
        if count is None:
            return None
        total *= count
    return total


def divisor(n: int, most: int) -> int:
    """Return the largest divisor of `n` that is at most `most`."""
    return next(d for d in range(min(n, most), 0, -1) if n % d == 0)


def divisors(n: int, most: int) -> list[int]:
    """Return the divisors of `n` up to `most`, ascending."""
    return [d for d in range(1, min(n, most) + 1) if n % d == 0]


def is_multiple(count: Any, of: int) -> bool:
    """Whether a number or an expression is known to be a multiple of `of`."""
    if isinstance(count, (int, tirx.IntImm)):
        return not int(count) % of
    found = sym.Analyzer().modular_set(count)
    return not found.coeff % of and not found.base % of


def only_reduction(blocks: Sequence[SBlockInfo]) -> int | None:
    """Return the place of the one reduction among `blocks`, None where there is none or more."""
    places = [place for place, block in enumerate(blocks) if block.is_reduction()]
    return places[0] if len(places) == 1 else None


def variables(index: Any) -> list[tirx.Var]:
    """Return the variables that an expression reads, each as often as it does."""
    found: list[tirx.Var] = []
    tvm_ffi.structural_walk(index, (tirx.Var, found.append))
    return found


def substitute(node: Any, places: Sequence[tuple[tirx.Var, Any]]) -> Any:
    """Return an expression or a statement with each variable replaced by what stands beside it."""

    def replace(var: tirx.Var) -> Any:
        return next((place for old, place in places if var.same_as(old)), var)

    return tvm_ffi.structural_map(node, (tirx.Var, replace))


def inline(sch: Schedule, block: Any, target: tvm.target.Target) -> None:
    """Inline an elementwise block into its readers, unless it is costly: then compute it once, on its own.

    A polynomial of ApproximateMath reads its argument twenty times; a chain of them, inlined, would grow exponentially.
    """
    found: list[Any] = []
    tvm_ffi.structural_walk(sch.get(block).body, (tirx.Let, found.append))
    if found:
        elementwise(sch, block, target)
    else:
        sch.compute_inline(block)


def elementwise(sch: Schedule, block: Any, target: tvm.target.Target) -> None:
    """Schedule an elementwise block on its own: threads over the outer loops where there is enough to do, vectors inside."""
    loops = sch.get_loops(block)
    if not loops:  # a single value
        return
    total = work(sch, block)
    vectorize_last(sch, block, target)
    if len(loops) > 1 and (total is None or total >= PARALLEL_FROM):
        sch.parallel(sch.fuse(*loops[:-1]))


def vectorize_last(sch: Schedule, block: Any, target: tvm.target.Target) -> None:
    """Vectorize a block's innermost loop where its trip count is a multiple of a few lanes."""
    loop = sch.get_loops(block)[-1]
    count = extent(sch, loop)
    width = divisor(count, lanes(target)) if count else 1
    if width >= 4:
        sch.vectorize(sch.split(loop, [None, width])[1])
