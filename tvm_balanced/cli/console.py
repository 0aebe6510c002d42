"""Output of the commands: results on standard output, progress and errors on standard error."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table

out = Console()
err = Console(stderr=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[Callable[[str], None]]:
    """Show `what` while the block runs: a spinner on a terminal, a line elsewhere.

    Yields a function that shows another text beside the spinner; elsewhere it does nothing.
    """
    if err.is_terminal:
        with err.status(what) as status:
            yield status.update
    else:
        err.print(what, highlight=False)
        yield lambda _: None


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], width: int = 240) -> None:
    """Print a table on standard output. If that is not a terminal, the table is as wide as its
    content, up to `width` columns.
    """
    table = Table(*(Column(text, overflow="fold") for text in header), title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console = out if out.is_terminal else Console(width=width)
    console.print(table)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines of text on standard output as they are."""
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
