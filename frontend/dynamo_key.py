"""What a module of torch.compile's backend was made from, as a key: it is the same in another process, and for nothing else.

It covers the graph, the values of its weights, the numbers and sizes that it was compiled for, the options, what was tuned and
measured on this machine, the target, versions, and the source of this package.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx

import tvm_balanced
from tvm_balanced.compiler.compile import CompileOptions
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.frontend.dynamo_graph import Inputs, number
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.host import cores, user_folder
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.selection.machine_profile import user_file
from tvm_balanced.tuning.log.log import Log

KNOWN = ("torch", "_operator", "operator", "builtins", "math")  # whose functions are told apart by their names and our versions
PLAIN = (int, float, complex, bool, str, type(None), type(Ellipsis), torch.dtype, torch.device, torch.layout, torch.memory_format)
SOURCES = ("*.py", "*.json", "*.jsonl")


class _UnknownError(Exception):
    """Something in a graph of which a name does not say what it computes."""


def key_of(graph: fx.GraphModule, inputs: Inputs, args: Sequence[Any], dynamic: Any, options: CompileOptions) -> str | None:
    """Return the key of the module that a graph is compiled to, None where it has parts that a key cannot tell apart.

    Parameters
    ----------
    graph : torch.fx.GraphModule
    inputs : Inputs
    args : sequence
        Of the call that it is compiled for.
    dynamic
        Which dimensions may change.
    options : CompileOptions
    """
    try:
        parts = [
            _graph(graph),
            _values(graph, inputs, args),
            dynamic,
            _options(options),
            _state(),
            environment.versions(),
            _source(),
        ]
    except _UnknownError:
        return None
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _graph(graph: fx.GraphModule) -> list[Any]:
    """Return what a graph computes as plain data: nodes by their places, so that names do not matter."""
    places = {node: place for place, node in enumerate(graph.graph.nodes)}
    return [
        (node.op, _target(graph, node), _plain(node.args, places), _plain(node.kwargs, places))
        if node.op != "placeholder"
        else node.op
        for node in graph.graph.nodes
    ]


def _target(graph: fx.GraphModule, node: fx.Node) -> Any:
    if node.op == "get_attr":
        value = functools.reduce(getattr, str(node.target).split("."), graph)
        return _graph(value) if isinstance(value, fx.GraphModule) else str(node.target)
    return _name(node.target) if node.op == "call_function" else _text(node)


def _text(node: fx.Node) -> str:
    if node.op not in ("call_method", "output"):
        raise _UnknownError
    return str(node.target)


def _name(function: Callable[..., Any] | str) -> str:
    """Return the name of a function whose body no user can change."""
    if isinstance(function, torch._ops.OpOverload):
        name, known = str(function), function.namespace in ("aten", "prims")
    else:
        try:
            name = str(fx.node._get_qualified_name(function))  # type: ignore[arg-type]
        except Exception:
            raise _UnknownError from None
        known = name.partition(".")[0] in KNOWN
    if not known:
        raise _UnknownError
    return name


def _plain(value: Any, places: Mapping[fx.Node, int]) -> Any:
    if isinstance(value, fx.Node):
        return "node", places[value]
    if isinstance(value, (tuple, list)):
        return type(value).__name__, [_plain(part, places) for part in value]
    if isinstance(value, dict):
        return [(_plain(name, places), _plain(part, places)) for name, part in value.items()]
    if isinstance(value, slice):
        return "slice", [_plain(part, places) for part in (value.start, value.stop, value.step)]
    if type(value) not in PLAIN:
        raise _UnknownError
    return repr(value)


def _values(graph: fx.GraphModule, inputs: Inputs, args: Sequence[Any]) -> list[Any]:
    """Return the weights by their values, shapes and dtypes of tensors, and the numbers."""
    weights = {name: args[place] for place, name in inputs.weights.items()}
    weights |= {f"own {name}": tensor for name, tensor in (*graph.named_parameters(), *graph.named_buffers())}
    first: dict[Any, str] = {}
    ties = {name: first.setdefault((tensor.data_ptr(), tensor.shape), name) for name, tensor in weights.items()}
    return [
        sorted((name, ties[name], isinstance(tensor, torch.nn.Parameter), _content(tensor)) for name, tensor in weights.items()),
        list(inputs.weights.items()),
        sorted(inputs.sizes.items()),
        [(place, tuple(args[place].shape), args[place].stride(), str(args[place].dtype)) for place in inputs.tensors],
        [(place, repr(number(args[place]))) for place in inputs.numbers],
    ]


def _content(tensor: torch.Tensor) -> tuple[Any, ...]:
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer) or tensor.layout != torch.strided:
        raise _UnknownError
    whole = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return (
        tuple(tensor.shape),
        tensor.stride(),
        str(tensor.dtype),
        str(tensor.device),
        hashlib.sha256(whole.numpy().data).digest(),
    )


def _options(options: CompileOptions) -> list[Any]:
    target = parse_target(options.target)
    folder = user_folder() if options.logs is None else options.logs
    files = [user_file(target)] + ([] if folder is False else [Log(Path(folder), target_key(target)).path])
    known = [_digest(file) for file in files]
    kernels = sorted((options.kernels or {}).items())
    return [str(target), options.threads or cores(), options.tolerance, kernels, options.copies, known, options.logs is False]


def _digest(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b""


def _state() -> list[Any]:
    """Return what changes how torch traces a graph, and is no part of it."""
    return [
        torch.is_autocast_enabled("cpu"),
        str(torch.get_autocast_dtype("cpu")),
        str(torch.get_default_dtype()),
    ]


@functools.cache
def _source() -> bytes:
    """Return a digest of this package's files: what is being worked on keeps its version."""
    whole = hashlib.sha256()
    for folder in tvm_balanced.__path__:
        for part in (Path(folder), *(Path(folder, name) for name in ("schedules", "frontend", "tuning_logs"))):
            for file in sorted(file for kind in SOURCES for file in part.rglob(kind)):
                whole.update(file.read_bytes())
    return whole.digest()
