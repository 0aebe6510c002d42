"""Decisions: the choices that a kernel's space samples, as plain numbers that can be listed, stored and replayed."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

# Factors of a tile, from the outermost; the one index of a category; or, first of all, the numbers of a form
Decision = tuple[int, ...]
Decisions = tuple[Decision, ...]  # in the order they are sampled
FORM_ATTR = "tvm_balanced.form"  # attribute of a function of a kernel that has several: the numbers of this one


@dataclass(frozen=True, eq=False)
class Part:
    """All possible schedules of one function.

    Parameters
    ----------
    default : tuple of tuples of int
        The kernel's choice without tuning.
    choices : tuple
        For each decision, all possible values in a fixed order.
    fingerprint : str
        Equal for functions whose schedules record the same instructions: their decisions mean the same.
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
    def of(cls, sch: Schedule, func: tirx.PrimFunc) -> "Part":
        """Return what a schedule of `func` with default decisions was sampled from."""
        trace = sch.trace
        samples = tuple(inst for inst in trace.insts if str(inst.kind.name).startswith("Sample"))
        default = tuple(_plain(trace.decisions[inst]) for inst in samples)
        choices = tuple(_choices(inst, decision) for inst, decision in zip(samples, default, strict=True))
        return cls(default, choices, _fingerprint(trace), func, trace, samples)

    def __len__(self) -> int:
        return math.prod(map(len, self.choices))

    def __contains__(self, decisions: Decisions) -> bool:
        return len(decisions) == len(self.choices) and all(d in c for d, c in zip(decisions, self.choices, strict=True))

    def at(self, index: int) -> Decisions:
        """Return the point with this number, from 0 up; the last decision changes fastest."""
        point: list[Decision] = []
        for choices in reversed(self.choices):
            index, place = divmod(index, len(choices))
            point.append(choices[place])
        return tuple(reversed(point))

    def trace_of(self, decisions: Decisions) -> Any:
        """Return the trace that schedules the function by `decisions`, which must be of these."""
        trace = self._trace
        for inst, decision in zip(self._samples, decisions, strict=True):
            category = str(inst.kind.name) == "SampleCategorical"
            trace = trace.with_decision(inst, decision[0] if category else list(decision), True)
        return trace


class Space:
    """All possible schedules of a kernel's function and, where the kernel can write it in several forms, of all of them.

    The form is then the first decision. What it decides is no schedule's to change: how many thread blocks share K, for
    instance, because their partial sums are part of the function. Each form has tiles of its own.

    Parameters
    ----------
    forms : sequence of tuples of int
        The numbers of each form, the default first; empty if there is one function only.
    part : callable
        From a form to its function's schedules, asked once and only when they are needed; from () where there are no forms.
    """

    def __init__(self, forms: Sequence[Decision], part: Callable[[Decision], Part]) -> None:
        self.forms, self._make = tuple(forms), part
        self._made: dict[Decision, Part] = {}

    @classmethod
    def of(cls, sch: Schedule, func: tirx.PrimFunc) -> "Space":
        """Return the space that a schedule of `func` with default decisions was sampled from, without other forms."""
        part = Part.of(sch, func)
        return cls((), lambda _: part)

    def _part(self, form: Decision) -> Part:
        if form not in self._made:
            self._made[form] = self._make(form)
        return self._made[form]

    def _split(self, decisions: Decisions) -> tuple[Part, Decisions]:
        """Return the schedules of the form that decisions name, and the decisions about them."""
        return (self._part(decisions[0]), decisions[1:]) if self.forms else (self._part(()), decisions)

    @property
    def _first(self) -> Decisions:
        return self.forms[:1]

    @property
    def _default_part(self) -> Part:
        return self._part(self.forms[0] if self.forms else ())

    def _parts(self) -> Iterator[tuple[Decisions, Part]]:
        """Yield all forms, as a first decision, with their schedules."""
        for form in self.forms:
            yield (form,), self._part(form)
        if not self.forms:
            yield (), self._part(())

    @property
    def default(self) -> Decisions:
        """The kernel's choice without tuning."""
        return (*self._first, *self._default_part.default)

    @property
    def choices(self) -> tuple[tuple[Decision, ...], ...]:
        """For each decision all values that it has in some form."""
        parts = [part.choices for _, part in self._parts()]
        places = zip_longest(*parts, fillvalue=())
        tiles = tuple(tuple(dict.fromkeys(value for one in same for value in one)) for same in places)
        return (self.forms, *tiles) if self.forms else tiles

    @property
    def fingerprint(self) -> str:
        """Equal for spaces whose default forms record the same instructions: their decisions mean the same."""
        return self._default_part.fingerprint

    @property
    def func(self) -> tirx.PrimFunc:
        """The function to schedule, in its default form."""
        return self._default_part.func

    def __len__(self) -> int:
        return sum(len(part) for _, part in self._parts())

    def __contains__(self, decisions: Decisions) -> bool:
        if self.forms and decisions[:1] not in [(form,) for form in self.forms]:
            return False
        part, rest = self._split(decisions)
        return rest in part

    def __iter__(self) -> Iterator[Decisions]:
        return ((*form, *part.at(i)) for form, part in self._parts() for i in range(len(part)))

    def at(self, index: int) -> Decisions:
        """Return the point with this number, from 0 up; the last decision changes fastest."""
        for form, part in self._parts():
            if index < len(part):
                return (*form, *part.at(index))
            index -= len(part)
        raise IndexError(f"the space has {len(self)} points")

    def schedule(self, decisions: Decisions) -> Schedule:
        """Return the schedule by `decisions`, which must belong to this space, with its trace."""
        part, rest = self._split(decisions)
        sch = Schedule(part.func)
        part.trace_of(rest).apply_to_schedule(sch, remove_postproc=False)
        return sch

    def replay(self, decisions: Decisions) -> tirx.PrimFunc:
        """Return the function scheduled by `decisions`.

        Raises
        ------
        ValueError
            If they do not belong to this space: TVM would silently alter them.
        """
        if decisions not in self:
            raise ValueError(f"decisions {decisions} are none of the kernel's; its defaults are {self.default}")
        return self.schedule(decisions).mod["main"]

    def trace_of(self, decisions: Decisions) -> Any:
        """Return the trace that schedules the function of their form by `decisions`, which must belong to this space."""
        part, rest = self._split(decisions)
        return part.trace_of(rest)


def form_of(func: tirx.PrimFunc) -> Decision | None:
    """Return the numbers of a function's form, None if its kernel has no forms."""
    numbers = func.attrs.get(FORM_ATTR) if func.attrs else None
    return None if numbers is None else tuple(int(number) for number in numbers)


def decisions_of(trace: Any, mod: tvm.IRModule) -> Decisions:
    """Return the decisions of a trace, in the order of its instructions, after the form of the one function that it schedules."""
    (func,) = mod.functions.values()
    form = form_of(func)
    tiles = tuple(_plain(trace.decisions[inst]) for inst in trace.insts if inst in trace.decisions)
    return tiles if form is None else (form, *tiles)


def sample_number(sch: Schedule, numbers: Sequence[int], default: int) -> Any:
    """Sample one of some numbers, each as likely as the others; `default` is the decision until a search changes it."""
    return sch.sample_categorical(list(numbers), [1 / len(numbers)] * len(numbers), decision=list(numbers).index(default))


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
