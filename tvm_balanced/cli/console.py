"""Output of the commands: results on standard output, progress and errors on standard error."""

import contextlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

out = Console()
err = Console(stderr=True)


COUNTED = re.compile(r"(\d+) of (\d+)")  # how work that knows its length says how far it is
LINES_EVERY = 10.0  # seconds between two lines if there is no terminal


@contextlib.contextmanager
def step(what: str) -> Iterator[Callable[[str], None]]:
    """Show `what` and for how long it has run: beside a spinner on a terminal, as a line elsewhere.

    Yields a function that shows another text. If the text counts, as "3 of 36: encoder.0" does, the time that is left is shown
    as well. Elsewhere than on a terminal a text is printed if none was for ten seconds.
    """
    if err.is_terminal:
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            _Left(),
            console=err,
            transient=True,
        ) as shown:
            task = shown.add_task(what, total=None)
            yield lambda text: shown.update(task, description=text, **_counted(text))
        return
    err.print(what, markup=False, highlight=False, soft_wrap=True)
    last = time.monotonic()

    def line(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= LINES_EVERY:
            last = time.monotonic()
            err.print(text, markup=False, highlight=False, soft_wrap=True)

    yield line


class _Left(ProgressColumn):
    """The time that is left, by the mean pace so far; nothing before the first of several is done."""

    def render(self, task: Task) -> Text:
        seconds = left(task.completed, task.total, task.elapsed)
        return Text("" if seconds is None else f"{duration(seconds)} left")


def left(done: float, total: float | None, elapsed: float | None) -> float | None:
    """Return how many seconds work still takes if it goes on at its mean pace, None if that is not known."""
    return None if not (done and total and elapsed) else elapsed * max(total - done, 0) / done


def duration(seconds: float) -> str:
    """Return seconds as people say them: 41 s, 12 min, 3.5 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def _counted(text: str) -> dict[str, Any]:
    found = COUNTED.search(text)
    return {} if found is None else {"completed": float(found[1]) - 1, "total": float(found[2])}


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], width: int = 1000) -> None:
    """Print a table on standard output, below the lines of its title, which are not folded. If that is not a terminal, the
    table is as wide as its content, up to `width` columns.
    """
    table = Table(*(Column(text, overflow="fold") for text in header))
    for row in rows:
        table.add_row(*map(Text, row))  # as it is: "[...]" in a cell is no markup
    console = out if out.is_terminal else Console(width=width)
    console.print(title, style="italic", markup=False, highlight=False, soft_wrap=True)
    console.print(table)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines of text on standard output as they are."""
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
