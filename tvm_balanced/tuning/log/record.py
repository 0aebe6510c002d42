"""Records of a tuning log: runs, trials and winners, one JSON object per line."""

import functools
import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, get_args, get_type_hints

from tvm_balanced.core.convolution import Convolution
from tvm_balanced.core.files import parse_json
from tvm_balanced.core.ratio import Ratio
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Decisions


@dataclass(frozen=True)
class Run:
    """One call of the tuner, which may have been stopped and resumed.

    Parameters
    ----------
    run : str
        Its name; trials and winners refer to it.
    plan : mapping
        The request: model, trials, seed, strategy, threads and so on.
    versions : mapping
        Package to version.
    at : str
        Start time, ISO 8601.
    """

    run: str
    plan: Mapping[str, Any]
    versions: Mapping[str, str]
    at: str


@dataclass(frozen=True)
class Trial:
    """One candidate that was measured.

    Parameters
    ----------
    run : str
    number : int
        From 1 up within the run.
    workload : Workload
    threads : int
        Threads of the timed call.
    space : str
        Fingerprint of the space that the decisions belong to.
    decisions : tuple of tuples of int
    seconds : float or None
        Median time of a call, None if it failed.
    error : str or None
        Why it failed.
    at : str
        Time, ISO 8601.
    """

    run: str
    number: int
    workload: Workload
    threads: int
    space: str
    decisions: Decisions
    seconds: float | None
    error: str | None
    at: str


@dataclass(frozen=True)
class Winner:
    """The outcome for one workload: the best candidates were checked, and timed in alternation with the default.

    Parameters
    ----------
    run : str
    workload : Workload
    threads : int
    space : str
    decisions : tuple of tuples of int
        Of the best candidate in the race, or the default's if there was none.
    won : bool
        Whether it beat the default, so that it may be used.
    gain : Ratio
        How many times faster it is than the default.
    max_error : float or None
        Largest difference of its outputs from a float64 reference, relative to the largest output.
    at : str
        Time, ISO 8601.
    raced : tuple of tuples of tuples of int
        The decisions of all candidates in the race.
    """

    run: str
    workload: Workload
    threads: int
    space: str
    decisions: Decisions
    won: bool
    gain: Ratio
    max_error: float | None
    at: str
    raced: tuple[Decisions, ...] = ()


Record = Run | Trial | Winner
KINDS: dict[str, type[Record]] = {"run": Run, "trial": Trial, "winner": Winner}


@dataclass(frozen=True)
class Read:
    """The records of a text, and the numbers (from 1) of the lines that cannot be parsed."""

    records: list[Record] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)


def to_line(record: Record) -> str:
    """Return a record as a line of JSON with its newline."""
    kind = next(name for name, cls in KINDS.items() if isinstance(record, cls))
    return json.dumps({"kind": kind, **asdict(record)}, separators=(",", ":")) + "\n"


def from_line(line: str) -> Record:
    """Return the record that `to_line` wrote; raises ValueError if the line is not a record."""
    try:
        data = parse_json(line)
        cls = KINDS[data.pop("kind")]
        present = [f.name for f in fields(cls) if f.name in data or f.default is MISSING]
        return _made(cls, {name: _value(name, data[name]) for name in present})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no record of a tuning log: {type(error).__name__} {error}") from None


def _value(name: str, value: Any) -> Any:
    if name == "workload":
        return _workload(value)
    if name == "decisions":
        return tuple(tuple(int(d) for d in decision) for decision in value)
    if name == "raced":
        return tuple(_value("decisions", decisions) for decisions in value)
    if name == "gain":
        return _made(Ratio, value)
    return value


def _workload(value: Mapping[str, Any]) -> Workload:
    conv = None if value.get("conv") is None else Convolution.from_attr(value["conv"])
    made: Workload = _made(Workload, {**value, "conv": conv})
    sizes = (made.n, made.k, made.nnz, made.block, 1 if made.m is None else made.m)
    if min(sizes) < 1:
        raise ValueError(f"a size of the workload is {min(sizes)}")
    return made


def _made(cls: type[Any], values: Mapping[str, Any]) -> Any:
    """Return a dataclass from plain values; raises TypeError if a value does not have the type of its field."""
    made = cls(**values)
    for name, allowed in _plain_fields(cls).items():  # type: ignore[arg-type]
        if not isinstance(value := getattr(made, name), allowed):
            raise TypeError(f"{name} is {type(value).__name__}")
    return made


@functools.cache
def _plain_fields(cls: Any) -> dict[str, tuple[type, ...]]:
    """Return the fields of a dataclass that JSON can represent, with the types that each may have."""
    plain: dict[str, tuple[type, ...]] = {}
    for name, hint in get_type_hints(cls).items():
        allowed = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if set(allowed) <= {str, int, float, bool, type(None)}:
            plain[name] = (*allowed, int) if float in allowed else allowed
    return plain


@dataclass(frozen=True)
class Measured:
    """A candidate's median time in seconds; if it failed, None and the reason."""

    decisions: Decisions
    seconds: float | None
    error: str | None = None
