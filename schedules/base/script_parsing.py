"""TVM's parser of TVMScript, without what it does again and again: a kernel is parsed for each of its workloads.

- TVM evaluates an expression node by node, and keeps the value of each node under a name. To read a name again, or to call a
  function with names, it makes a tree of Python's of that one node, compiles it and runs it. Here the nodes that TVM asks for
  nearly always are evaluated as they are: names, constants, attributes, subscripts, tuples, lists, and calls of names.
- It finds the source of a function and makes a tree of it each time; here both are kept.
- It notes the place in the source at each node, which only its own messages of later passes would show.
"""

import builtins
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import CodeType
from typing import Any

from tvm.script.parser.core import diagnostics, doc, entry, evaluator, parser

Values = Mapping[str, Any]
MISSING = object()
PYTHONS = vars(builtins)
# A call stands in a frame whose globals are the values, as when TVM makes it: a macro looks there for its parser.
CALL = compile("_function(*_arguments, **_keywords)", "<ast>", "eval")
TVMS_SOURCE: Any = diagnostics.Source
_kept: dict[CodeType, Any] = {}
_here = threading.local()


@contextmanager
def quick_parsing() -> Iterator[None]:
    """Let this thread parse so while the block runs; what others parse meanwhile comes out the same either way."""
    outside, _here.used = getattr(_here, "used", None), []
    for owner, name, replacement, _ in PATCHES:
        setattr(owner, name, replacement)
    try:
        yield
    finally:
        for owner, name, _, original in PATCHES:
            setattr(owner, name, original)
        _kept.update(_here.used)
        _here.used = outside


class Source(TVMS_SOURCE):
    """The source of a function, whose tree is made once."""

    _tree: Any = None

    def as_ast(self) -> Any:
        """Return the tree; the parser leaves it as it was."""
        if self._tree is None:
            self._tree = super().as_ast()
        return self._tree


def source_of(program: Any) -> Any:
    """Return the source of what is parsed: of a function that was parsed before, what was kept, unless it is in use now."""
    used = getattr(_here, "used", None)
    if used is None or not inspect.isfunction(program):
        return TVMS_SOURCE(program)
    source = _kept.pop(program.__code__, None) or Source(program)
    used.append((program.__code__, source))
    return source


def evaluate(node: Any, values: dict[str, Any] | None) -> Any:
    """Return the value of an expression: what TVM's function returns, which is asked for all that is not simple."""
    simple = SIMPLE.get(type(node))
    found = MISSING if simple is None or values is None else simple(node, values)
    return evaluate_by_tvm(node, values) if found is MISSING else found


def assign(target: Any, source: Any) -> dict[str, Any]:
    """Return what each name of a target stands for, as TVM's function does."""
    if type(target) is doc.Name:
        return {target.id: source}
    names = [part.id for part in getattr(target, "elts", ()) if type(part) is doc.Name]
    if names and isinstance(source, (list, tuple)) and len(names) == len(target.elts) == len(source):
        return dict(zip(names, source, strict=True))
    return dict(assign_by_tvm(target, source))


def _operand(node: Any, values: Values) -> Any:
    """Return the value of a name or a constant; MISSING for anything else, which may have to be evaluated once and not twice."""
    if type(node) is doc.Name:
        return values.get(node.id, PYTHONS.get(node.id, MISSING))
    return node.value if type(node) is doc.Constant else MISSING


def _attribute(node: Any, values: Values) -> Any:
    value = _operand(node.value, values)
    return MISSING if value is MISSING else getattr(value, node.attr)


def _subscript(node: Any, values: Values) -> Any:
    value, index = _operand(node.value, values), _operand(node.slice, values)
    return MISSING if value is MISSING or index is MISSING else value[index]


def _elements(node: Any, values: Values) -> Any:
    found = [_operand(element, values) for element in node.elts]
    if any(value is MISSING for value in found):  # not "in", which would compare expressions of TVM
        return MISSING
    return found if type(node) is doc.List else tuple(found)


def _call(node: Any, values: dict[str, Any]) -> Any:
    function, arguments = _operand(node.func, values), [_operand(argument, values) for argument in node.args]
    named = all(keyword.arg for keyword in node.keywords)  # no **
    keywords = {keyword.arg: _operand(keyword.value, values) for keyword in node.keywords} if named else {"": MISSING}
    if any(value is MISSING for value in (function, *arguments, *keywords.values())):
        return MISSING
    return eval(CALL, values, {"_function": function, "_arguments": arguments, "_keywords": keywords})  # of our own text


def _no_place(_parser: Any, _node: Any) -> AbstractContextManager[None]:
    return NOWHERE


def _as_it_is(_parser: Any, value: Any) -> Any:
    return value


NOWHERE: AbstractContextManager[None] = nullcontext()
SIMPLE: dict[type, Callable[[Any, Any], Any]] = {
    doc.Name: _operand,
    doc.Constant: _operand,
    doc.Attribute: _attribute,
    doc.Subscript: _subscript,
    doc.Tuple: _elements,
    doc.List: _elements,
    doc.Call: _call,
}
PATCHES = tuple(
    (owner, name, replacement, getattr(owner, name))
    for owner, name, replacement in (
        (evaluator, "_eval_expr", evaluate),
        (evaluator, "_eval_assign", assign),
        (entry, "Source", source_of),
        (parser.Parser, "with_source_span", _no_place),
        (parser.Parser, "annotate_current_source_span", _as_it_is),
    )
)
evaluate_by_tvm, assign_by_tvm = (original for *_, original in PATCHES[:2])
