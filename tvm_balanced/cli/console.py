"""What the commands print on: results on standard output, progress and errors on standard error."""

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

out = Console()
err = Console(stderr=True)

# What TVM logs about models that compile and load well: remarks about its own internals that no user can act on.
NOISE = re.compile(rb"Warning: (Scope (Saving|Loaded):|Fast mode segfaults when there are out-of-bounds)")


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Show `what` while the block runs: a spinner on a terminal, a line elsewhere."""
    if err.is_terminal:
        with err.status(what):
            yield
    else:
        err.print(what, highlight=False)
        yield


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], width: int = 240) -> None:
    """Print a table on standard output; where that is not a terminal, as wide as its content, up to `width` columns."""
    table = Table(*header, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console = out if out.is_terminal else Console(width=width)
    console.print(table)


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Drop TVM's lines that match NOISE from the process's standard error while the block runs."""
    sys.stderr.flush()
    original = os.dup(2)
    reading, writing = os.pipe()

    def copy() -> None:
        with os.fdopen(reading, "rb") as lines:
            for line in lines:
                if not NOISE.search(line):
                    os.write(original, line)

    reader = threading.Thread(target=copy, daemon=True)
    reader.start()
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        reader.join(timeout=5)
        os.close(original)
