"""Read a .pt2 file without running code that it holds.

`torch.export.load` has several ways to run what a file says. Where a pickle holds more than tensors, it reads it again with
`weights_only=False`. Custom objects come from pickles. Sizes such as "s0 + 1" go through sympy, which evaluates them as Python.
An operator may be any name that is reached from `torch`, `os.system` included. AOTInductor packs a shared library. Each of these
is checked while a file is read, where torch does it: what looks at a file beforehand may read it otherwise.
"""

import ast
import contextlib
import importlib
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

# torch.ops.aten.relu.default, _operator.getitem, math.floor, torch.sym_min; and what torch takes as a mere text.
OPERATORS = re.compile(
    r"(torch\.ops(\.\w+)+|torch\._higher_order_ops(\.\w+)+|_operator\.\w+|math\.\w+|torch\.sym_\w+|(?!torch|_operator|math).*)",
    re.DOTALL,
)
HIDDEN = re.compile(r"\.__(?!i?(and|or|xor|lshift|rshift)__)")  # aten::__and__ is an operator
SIZES = (
    *(ast.Expression, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
# What a size may call: torch's own functions of sizes, and sympy's that torch prints.
TEXTS = re.compile(r"[A-Za-z]\w*|[-+]?[\d.]+(e[-+]?\d+)?")  # Symbol("s0"), Float("1.5"): sympy evaluates texts again
FUNCTIONS = re.compile(r"[A-Z]\w*|floor|ceiling|sqrt|log|log2|exp|sign|int_oo|oo|zoo|nan")
NEVER = frozenset(("S", "N", "Lambda", "Function", "Subs"))


class RunsCodeError(Exception):
    """What a file would run, in words."""


def load_without_code(path: Path) -> torch.export.ExportedProgram:
    """Return the exported program of a file.

    Raises
    ------
    RunsCodeError
        Where reading it would run code. None has run then.
    Exception
        Where it cannot be read, of many kinds.
    """
    with _guarded() as refused:
        try:
            program = torch.export.load(path)
        except Exception as error:
            if refused:  # torch catches what a guard raises, and goes on in another way
                raise RunsCodeError(refused[0]) from error
            raise
    if refused:
        raise RunsCodeError(refused[0])
    program._guards_code = []  # Python text of the file, which `program.module()` would run to check its inputs
    return program


@contextlib.contextmanager
def _guarded() -> Iterator[list[str]]:
    """Let torch call nothing in this thread that runs code of a file; yield what it wanted to run. One thread may be here at a
    time, and others read files as ever.
    """
    refused: list[str] = []
    thread, load, sympify = threading.get_ident(), torch.load, importlib.import_module("sympy").sympify

    def refuse(what: str) -> None:
        refused.append(what)
        raise RunsCodeError(what)

    def only_here(guard: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: (guard if threading.get_ident() == thread else original)(*args, **kwargs)

    def load_tensors(*args: Any, **kwargs: Any) -> Any:
        try:
            return load(*args, **kwargs | {"weights_only": True})
        except pickle.UnpicklingError as error:
            return refuse(_named(str(error)))

    def read_size(text: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(text, str) and not _is_size(text):
            refuse(f"the expression {text!r:.60}")
        return sympify(text, *args, **kwargs)

    serialize = importlib.import_module("torch._export.serde.serialize")
    deserializer = serialize.GraphModuleDeserializer
    operator = deserializer.deserialize_operator

    def find_operator(self: Any, target: str) -> Any:
        if not OPERATORS.fullmatch(target) or HIDDEN.search(target):
            refuse(f"{target!r:.60}, which is no operator")
        return operator(self, target)

    guards: list[tuple[Any, str, Callable[..., Any]]] = [
        (torch, "load", load_tensors),
        (pickle, "load", lambda *_, **__: refuse("a pickle of objects")),
        (pickle, "loads", lambda *_, **__: refuse("a pickle of objects")),
        (torch._C, "_pickle_load_obj", lambda *_, **__: refuse("TorchScript objects")),
        (torch.jit, "load", lambda *_, **__: refuse("TorchScript")),
        (importlib.import_module("sympy"), "sympify", read_size),
        (deserializer, "deserialize_operator", find_operator),
    ]
    with contextlib.suppress(ImportError):  # torch 2.8 has it elsewhere
        package = importlib.import_module("torch.export.pt2_archive._package")
        guards.append((package, "_load_aoti", lambda *_, **__: refuse("a shared library of AOTInductor")))
    with contextlib.ExitStack() as stack:
        for place, name, guard in guards:
            if hasattr(place, name):
                stack.enter_context(mock.patch.object(place, name, only_here(guard, getattr(place, name))))
        yield refused


def _named(message: str) -> str:
    """Return what a pickle wanted to run, from what torch's reader of weights says about it."""
    found = re.search(r"GLOBAL (\S+)|Trying to (?:call|instantiate) (?:\w+ )*?(\S+\.\S+)", message)
    return (found[1] or found[2]) if found else f"a pickle that holds more than tensors ({message.splitlines()[0]:.80})"


def _is_size(text: str) -> bool:
    """Whether a text is a size or a comparison of sizes: numbers, symbols, arithmetic, and functions of these."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if not isinstance(node, SIZES):
            return False
        if isinstance(node, ast.Constant) and not TEXTS.fullmatch(str(node.value)):
            return False
        if isinstance(node, ast.Name) and node.id.startswith("_"):
            return False
        if isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Name) and FUNCTIONS.fullmatch(node.func.id) and node.func.id not in NEVER
        ):
            return False
    return True
