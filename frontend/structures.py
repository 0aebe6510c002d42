"""How a model nests what it takes and returns: from torch's trees to those of `core.structure`."""

import dataclasses
import inspect
import re
import sys
from collections import OrderedDict, UserDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind
from torch.utils import _pytree as pytree

from tvm_balanced.core.key_value_cache import fields_of, held, is_cache
from tvm_balanced.core.structure import Call, Tree, tensors_of
from tvm_balanced.frontend.key_value_cache import register_cache

UNKNOWN_TYPE = re.compile(r"<class '([\w.]+)'> in (?:output|input)")
PLAIN = (bool, int, float, str, type(None))  # what may be fixed in a compiled module


class _Tensor:
    """Stands for a tensor where a tree is put together again."""

    def __init__(self, place: int) -> None:
        self.place = place


def call_of(program: ExportedProgram) -> Call | None:
    """Return what the forward of a program takes; None where torch cannot put its arguments together again."""
    spec = program.call_spec.in_spec
    leaves = filled(program, map(_Tensor, count()))
    try:
        args, kwargs = pytree.tree_unflatten(leaves, spec)
    except Exception:  # a class that is made of tensors alone, such as DynamicCache of transformers
        return None
    signature = program.module_call_graph[0].signature if program.module_call_graph else None
    names = list(getattr(signature, "forward_arg_names", None) or ())[: len(args)]
    names += [_name_of(program, arg, place) for place, arg in enumerate(args)][len(names) :]
    call = [[str(name), _tree(value)] for name, value in (*zip(names, args, strict=True), *kwargs.items())]
    return call if len({name for name, _ in call}) == len(call) else None


def result_of(program: ExportedProgram) -> Tree | None:
    """Return how a program nests its outputs; None for one tensor, a flat tuple of tensors, or what torch cannot put together."""
    constants = [constant_of(one.arg) for one in program.graph_signature.output_specs if one.kind == OutputKind.USER_OUTPUT]
    try:
        tree = _tree(pytree.tree_unflatten(_leaves(constants, map(_Tensor, count())), program.call_spec.out_spec))
    except Exception:
        return None
    flat = "tensor" in tree or ("tuple" in tree and len(tree["tuple"]) > 1 and all("tensor" in part for part in tree["tuple"]))
    return None if flat else tree


def with_defaults(call: Call | None, forward: Callable[..., Any]) -> Call | None:
    """Return a call with the parameters that the examples left out, fixed to their defaults, in the order of the signature."""
    parameters = inspect.signature(forward).parameters
    several = any(one.kind in (one.VAR_POSITIONAL, one.POSITIONAL_ONLY) for one in parameters.values())
    if call is None or several:
        return call
    given = dict(call)
    own = [
        [name, given.get(name, {"value": one.default})]
        for name, one in parameters.items()
        if name in given or (one.kind != one.VAR_KEYWORD and isinstance(one.default, PLAIN))
    ]
    return [*own, *([name, tree] for name, tree in call if name not in parameters)]


def user_inputs(program: ExportedProgram) -> list[Any]:
    """Return the specifications of what a caller gives, constants among them."""
    return [one for one in program.graph_signature.input_specs if one.kind == InputKind.USER_INPUT]


def constant_of(arg: Any) -> Any:
    """Return the constant that an input or output is, or `_Tensor` itself for a tensor."""
    return arg.value if isinstance(arg, ConstantArgument) else _Tensor


def filled(program: ExportedProgram, tensors: Iterable[Any]) -> list[Any]:
    """Return all leaves of a program's arguments: its constants, and between them the tensors of a call."""
    return _leaves([constant_of(one.arg) for one in user_inputs(program)], tensors)


def drop_constants(program: ExportedProgram) -> None:
    """Take constants out of the inputs and outputs of a decomposed program, in place: code has tensors alone."""
    signature = program.graph_signature
    constant = {one.arg.name: one.arg.value for one in user_inputs(program) if isinstance(one.arg, ConstantArgument)}
    for node in list(program.graph.nodes):
        if node.op == "placeholder" and node.name in constant:
            for user in list(node.users):
                user.args = fx.node.map_arg(user.args, partial(replaced, node, constant[node.name]))
                user.kwargs = fx.node.map_arg(user.kwargs, partial(replaced, node, constant[node.name]))
            program.graph.erase_node(node)
    signature.input_specs[:] = [one for one in signature.input_specs if one.arg.name not in constant]
    output = next(node for node in program.graph.nodes if node.op == "output")
    pairs = list(zip(output.args[0], signature.output_specs, strict=True))
    kept = [(arg, one) for arg, one in pairs if not isinstance(one.arg, ConstantArgument)]
    if len(kept) < len(pairs):
        output.args = (tuple(arg for arg, _ in kept),)
        signature.output_specs[:] = [one for _, one in kept]


def replaced(old: fx.Node, new: Any, arg: fx.Node) -> Any:
    """Return `new` in place of `old`, as `fx.node.map_arg` asks for every argument."""
    return new if arg is old else arg


def register_dataclasses(*values: Any) -> None:
    """Let torch take dataclasses, and caches of transformers, apart that stand among arguments."""
    for value in values:
        if (dataclasses.is_dataclass(value) and not isinstance(value, type)) or is_cache(type(value)):
            _register(type(value))
        if is_cache(type(value)):
            register_dataclasses(*(part for part in (held(value) or {}).values() if is_cache(type(part))))
        elif isinstance(value, Mapping):
            register_dataclasses(*value.values())
        elif isinstance(value, (tuple, list)):
            register_dataclasses(*value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            register_dataclasses(*(getattr(value, field.name) for field in dataclasses.fields(value)))


def plain_dicts(value: Any) -> Any:
    """Return arguments with a dict in place of each UserDict, as a BatchEncoding of transformers, which torch does not know."""
    if isinstance(value, UserDict):
        return {name: plain_dicts(part) for name, part in value.items()}
    if type(value) in (tuple, list, dict):
        parts = value.values() if isinstance(value, dict) else value
        plain = map(plain_dicts, parts)
        return dict(zip(value, plain, strict=True)) if isinstance(value, dict) else type(value)(plain)
    return value


def registered_anew(error: BaseException) -> bool:
    """Whether torch failed because it did not know a dataclass or a cache, which it knows now."""
    named = UNKNOWN_TYPE.search(str(error))
    module, _, name = (named[1] if named else "").rpartition(".")
    kind = getattr(sys.modules.get(module), name, None)
    return _register(kind)


def _register(kind: Any) -> bool:
    if register_cache(kind):
        return True
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)) or kind in pytree.SUPPORTED_NODES:
        return False
    torch.export.register_dataclass(kind, serialized_type_name=f"{kind.__module__}.{kind.__qualname__}")
    return True


def _leaves(constants: Iterable[Any], tensors: Iterable[Any]) -> list[Any]:
    rest = iter(tensors)
    return [next(rest) if constant is _Tensor else constant for constant in constants]


def _tree(value: Any) -> Tree:
    if isinstance(value, _Tensor):
        return {"tensor": value.place}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _class_tree(value, zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return {"tuple" if isinstance(value, tuple) else "list": [_tree(part) for part in value]}
    if is_cache(type(value)):
        return _class_tree(value, fields_of(value).items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        mapped = value.items() if isinstance(value, Mapping) else None  # a ModelOutput, which leaves out what is None
        return _class_tree(value, mapped or ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value)))
    if type(value) is OrderedDict and all(isinstance(key, str) for key in value):
        return _class_tree(value, value.items())
    if isinstance(value, Mapping):
        return {"dict": [[key, _tree(part)] for key, part in value.items()]}
    if not isinstance(value, PLAIN):
        raise TypeError(f"{type(value).__name__} is no structure")
    return {"value": value}


def _class_tree(value: Any, fields: Any) -> Tree:
    known = pytree.SUPPORTED_SERIALIZED_TYPES.get(type(value))
    name = getattr(known, "serialized_type_name", None)
    plain = f"{type(value).__module__}.{type(value).__qualname__}"
    name = name if isinstance(name, str) and "." in name else plain
    return {"class": name, "fields": [[str(key), _tree(part)] for key, part in fields]}


def _name_of(program: ExportedProgram, arg: Any, place: int) -> str:
    """The name of a parameter where the program does not say it: that of its only tensor, or what those of its tensors share."""
    inputs = [one.arg.name for one in user_inputs(program) if not isinstance(one.arg, ConstantArgument)]
    names = [inputs[leaf] for leaf in _places(arg)]
    if len(names) == 1 and isinstance(arg, _Tensor):
        return str(names[0])
    shared = names[0].rpartition("_")[0] if names else ""
    return shared if shared and all(name.startswith(f"{shared}_") for name in names) else f"arg_{place}"


def _places(value: Any) -> Iterator[int]:
    yield from tensors_of(_tree(value))
