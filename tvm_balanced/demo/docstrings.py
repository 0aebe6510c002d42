"""The demo's texts: docstrings of packages that are installed anyway. A real task, with nothing to download.

A query is the first line of a docstring, and what it should find is the text below that line.
"""

import importlib
import inspect
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# Of the standard library (Python's licence), NumPy and PyTorch (BSD).
MODULES = """
    argparse ast asyncio calendar collections concurrent.futures configparser csv datetime decimal difflib
    email.message fractions functools gzip heapq html.parser http.client imaplib inspect ipaddress itertools json
    logging mailbox math mimetypes multiprocessing operator optparse os os.path pathlib pickle pickletools
    platform plistlib pprint random re sched selectors shlex shutil smtplib socket socketserver ssl statistics
    string subprocess sysconfig tarfile tempfile textwrap threading timeit tokenize traceback turtle
    unittest unittest.mock urllib.parse urllib.request uuid warnings wave weakref xml.dom.minidom zipfile zoneinfo
    numpy numpy.fft numpy.lib.stride_tricks numpy.linalg numpy.ma numpy.polynomial numpy.random numpy.testing
    torch torch.distributions torch.fft torch.linalg torch.nn torch.nn.functional torch.nn.init torch.nn.utils
    torch.optim torch.special torch.utils.data
""".split()
SHORTEST = (20, 80)  # characters of a first line, and of the text below it, that say something
LONGEST = 600  # characters of a text; 48 tokens are about 200


@dataclass(frozen=True)
class Docstring:
    """A docstring's first line and the beginning of the text below it."""

    summary: str
    body: str


def docstrings() -> list[Docstring]:
    """Return distinct docstrings of functions and classes that are installed, always in the same order."""
    found: dict[str, Docstring] = {}
    bodies = set()
    for module in _imported():  # all of them before one is read: some add to others
        for text in _texts(module):
            summary, _, rest = inspect.cleandoc(text).partition("\n\n")
            body = re.sub(r"\s+", " ", rest).strip()[:LONGEST]
            summary = re.sub(r"\s+", " ", summary)
            if len(summary) >= SHORTEST[0] and len(body) >= SHORTEST[1] and summary not in found and body[:80] not in bodies:
                bodies.add(body[:80])
                found[summary] = Docstring(summary[:LONGEST], body)
    ordered = sorted(found.values(), key=lambda doc: doc.summary)
    random.Random(0).shuffle(ordered)
    return ordered


def _imported() -> list[ModuleType]:
    """Return the modules that are there."""
    found = []
    for name in MODULES:
        with suppress(ImportError):  # turtle needs Tk
            found.append(importlib.import_module(name))
    return found


def _texts(module: ModuleType) -> Iterator[str]:
    """Yield the docstrings of a module's functions and classes, and of the methods of these."""
    for _, value in sorted(vars(module).items()):
        if inspect.isclass(value):
            yield from (member.__doc__ for _, member in sorted(vars(value).items()) if _has_text(member))
        if callable(value) and _has_text(value):
            yield value.__doc__


def _has_text(value: Any) -> bool:
    return callable(value) and isinstance(getattr(value, "__doc__", None), str)
