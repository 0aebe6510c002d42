"""Which cases `make test` runs of a test that is marked `grid` or `nightly`; `make nightly` runs all of them.

`@pytest.mark.grid` keeps so many cases that every value of every parameter occurs in one, `@pytest.mark.grid(pairs=True)` every
two values of two parameters. The choice is always the same. `make test-fast` runs the first of them: the others are marked slow.
`@pytest.mark.nightly` keeps none.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations

import pytest

NIGHTLY = "TVM_BALANCED_NIGHTLY" in os.environ


def examples(count: int) -> int:
    """Return how many random examples to run of a property that compiles for each: `count` at night, half of them by day."""
    return count if NIGHTLY else count // 2


def sample(cases: Sequence[Mapping[str, Hashable]], pairs: bool = False) -> list[int]:
    """Return the places of a part of `cases` in which every value occurs that occurs in one of them, or every two values.

    A case maps parameters to their values. Each time the case with most new values is taken; of those with equally many,
    the one whose values were taken least often, and then the first.
    """
    parts = [_parts(case, pairs) for case in cases]
    missing, taken, chosen = set().union(*parts), Counter(), []
    while missing:
        place = min(
            range(len(cases)), key=lambda i: (-len(parts[i] & missing), sum(taken[value] for value in cases[i].items()), i)
        )
        chosen.append(place)
        missing -= parts[place]
        taken.update(cases[place].items())
    return sorted(chosen)


def _parts(case: Mapping[str, Hashable], pairs: bool) -> set[tuple[tuple[str, Hashable], ...]]:
    return {part for size in ((1, 2) if pairs else (1,)) for part in combinations(sorted(case.items()), size)}


def left_out(items: Sequence, args: Sequence[str]) -> list:
    """Return the tests among `items` that do not run, and mark the cases of grids but the first slow.

    A test that `args`, those of the command line, name with its parameters runs.
    """
    if NIGHTLY:
        return []
    named = {arg.partition("::")[2] for arg in args if arg.endswith("]")}
    grids, out = defaultdict(list), []
    for item in items:
        if item.nodeid.partition("::")[2] in named:
            continue
        if item.get_closest_marker("nightly"):
            out.append(item)
        elif item.get_closest_marker("grid"):
            grids[item.nodeid.partition("[")[0]].append(item)
    for cases in grids.values():
        first, *others = sample([_axes(item) for item in cases], **cases[0].get_closest_marker("grid").kwargs)
        for place in others:
            cases[place].add_marker(pytest.mark.slow)
        out += [item for place, item in enumerate(cases) if place not in {first, *others}]
    return out


def _axes(item) -> dict[str, tuple[int, ...]]:
    """Return which value each parameter has, by its address: all cases share them. Parameters of one list are one."""
    lists = [mark.args[0] for mark in item.iter_markers("parametrize")]
    names = [[name.strip() for name in given.split(",")] if isinstance(given, str) else list(given) for given in lists]
    names += [[name] for name in item.callspec.params if not any(name in together for together in names)]  # of a fixture
    return {" ".join(together): tuple(id(item.callspec.params[name]) for name in together) for together in names}
