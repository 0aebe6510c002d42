"""Decisions: the choices that a kernel's space samples, as plain numbers that can be listed, stored and replayed."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule

Decision = tuple[int, ...]  # factors of a tile, from the outermost; or the one index of a category
Decisions = tuple[Decision, ...]  # in the order they are sampled


@dataclass(frozen=True, eq=False)
class Space:
    """All possible schedules of one function.

    Parameters
    ----------
    default : tuple of tuples of int
        The kernel's choice without tuning.
    choices : tuple
        For each decision, all possible values in a fixed order.
    fingerprint : str
        Equal for spaces that record the same instructions: their decisions mean the same.
    func : PrimFunc
        The function to schedule.
    """

    default: Decisions
    choices: tuple[tuple[Decision, ...], ...]
    fingerprint: str
    func: tirx.PrimFunc
    _trace: Any
    _samples: tuple[Any, ...]

    @classmethod
    def of(cls, sch: Schedule, func: tirx.PrimFunc) -> "Space":
        """Return the space that a schedule of `func` with default decisions was sampled from."""
        trace = sch.trace
        samples = tuple(inst for inst in trace.insts if str(inst.kind.name).startswith("Sample"))
        default = tuple(_plain(trace.decisions[inst]) for inst in samples)
        choices = tuple(_choices(inst, decision) for inst, decision in zip(samples, default, strict=True))
        return cls(default, choices, _fingerprint(trace), func, trace, samples)

    def __len__(self) -> int:
        return math.prod(map(len, self.choices))

    def __contains__(self, decisions: Decisions) -> bool:
        return len(decisions) == len(self.choices) and all(d in c for d, c in zip(decisions, self.choices, strict=True))

    def __iter__(self) -> Iterator[Decisions]:
        return map(self.at, range(len(self)))

    def at(self, index: int) -> Decisions:
        """Return the point with this number, from 0 up; the last decision changes fastest."""
        point: list[Decision] = []
        for choices in reversed(self.choices):
            index, place = divmod(index, len(choices))
            point.append(choices[place])
        return tuple(reversed(point))

    def replay(self, decisions: Decisions) -> tirx.PrimFunc:
        """Return the function scheduled by `decisions`.

        Raises
        ------
        ValueError
            If they do not belong to this space: TVM would silently alter them.
        """
        if decisions not in self:
            raise ValueError(f"decisions {decisions} are none of the kernel's; its defaults are {self.default}")
        sch = Schedule(self.func)
        self.trace_of(decisions).apply_to_schedule(sch, remove_postproc=False)
        return sch.mod["main"]

    def trace_of(self, decisions: Decisions) -> Any:
        """Return the trace that schedules the function by `decisions`, which must belong to this space."""
        trace = self._trace
        for inst, decision in zip(self._samples, decisions, strict=True):
            category = str(inst.kind.name) == "SampleCategorical"
            trace = trace.with_decision(inst, decision[0] if category else list(decision), True)
        return trace


def decisions_of(trace: Any) -> Decisions:
    """Return the decisions of a trace, in the order of its instructions."""
    return tuple(_plain(trace.decisions[inst]) for inst in trace.insts if inst in trace.decisions)


def _plain(decision: Any) -> Decision:
    return (int(decision),) if isinstance(decision, (int, tirx.IntImm)) else tuple(int(d) for d in decision)


def _choices(inst: Any, default: Decision) -> tuple[Decision, ...]:
    """Return all possible values of a sampling instruction. The extent that a tile divides is the
    product of its default.
    """
    if str(inst.kind.name) == "SampleCategorical":
        return tuple((i,) for i in range(len(inst.attrs[0])))
    parts, innermost = (int(a) for a in inst.attrs)
    tiles = [tile for tile in _factorizations(math.prod(default), parts) if tile[-1] <= innermost]
    return tuple(tiles if default in tiles else [*tiles, default])


def _factorizations(extent: int, parts: int) -> Iterator[Decision]:
    if parts == 1:
        yield (extent,)
        return
    for outer in range(1, extent + 1):
        if extent % outer == 0:
            yield from ((outer, *rest) for rest in _factorizations(extent // outer, parts - 1))


def _fingerprint(trace: Any) -> str:
    """Hash a trace's instructions without their decisions."""
    instructions = json.dumps(trace.as_json()[0], default=_json)
    return hashlib.sha256(instructions.encode()).hexdigest()[:12]


def _json(value: Any) -> Any:
    """Convert a TVM value that json does not know to one that it knows."""
    if isinstance(value, (tirx.IntImm, tirx.FloatImm)):
        return value.value
    return list(value) if hasattr(value, "__iter__") else str(value)
