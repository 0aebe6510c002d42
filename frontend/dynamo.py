"""The backend of `torch.compile(model, backend="tvm_balanced")`: one graph of torch's dynamo after another through the compiler.

dynamo finds this function by the entry point `torch_dynamo_backends`. Weights are constants, as in inductor's freezing: a graph
is compiled at its first call with some weights, and again where these are others or were changed. So layers that share a graph
have a module each. What another process compiled before is loaded. What cannot be compiled runs in PyTorch, with one line that
says why.
"""

import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import fx
from torch._dynamo.utils import counters

from tvm_balanced.compiler.compile import CompileOptions, compile_imported
from tvm_balanced.errors import InputError, ModelError, TvmBalancedError
from tvm_balanced.frontend import dynamo_cache
from tvm_balanced.frontend.dynamo_graph import Inputs, completion, number, outputs_of, plain_module
from tvm_balanced.frontend.dynamo_key import key_of
from tvm_balanced.frontend.exporting import EXPORTING
from tvm_balanced.frontend.module import import_module
from tvm_balanced.runtime.compiled_module import CompiledModule

OPTIONS = ("target", "threads", "tolerance", "kernels", "logs", "copies", "cache")
VERSION = attrgetter("_version")
MOST = 8  # modules of a graph, as torch._dynamo.config.recompile_limit of one function
Run = Callable[[Sequence[Any]], tuple[Any, ...]]
log = logging.getLogger(__name__)


def tvm_balanced(
    graph: fx.GraphModule, examples: Sequence[Any], *, mode: str | None = None, options: Mapping[str, Any] | None = None
) -> "CompiledGraph":
    """Return what runs a graph of dynamo.

    Parameters
    ----------
    graph : torch.fx.GraphModule
    examples : sequence
        Its first arguments.
    mode : str, optional
        There is none; for the signature of torch.compile.
    options : mapping, optional
        Some of OPTIONS, as `tb.compile` takes them; `cache=False` neither loads nor keeps modules for other processes.

    Raises
    ------
    InputError
        Where a mode or an unknown option was given.
    """
    if mode is not None:
        raise InputError(f'backend "tvm_balanced" has no mode {mode!r}; give options, of {", ".join(OPTIONS)}')
    for name in options or {}:
        if name not in OPTIONS:
            raise InputError(f'backend "tvm_balanced" has no option {name!r}; it has {", ".join(OPTIONS)}')
    given = dict(options or {})
    cache = given.pop("cache", True)
    if not isinstance(cache, bool):
        raise InputError(f"cache is {cache!r}; give True or False")
    return CompiledGraph(graph, CompileOptions(**given), cache)


class CompiledGraph:
    """A graph of dynamo with the modules that it was compiled to, one for each set of weights and of fixed numbers.

    `torch._dynamo.utils.counters["tvm_balanced"]` counts modules that were compiled, modules that were loaded instead, graphs
    without a layer, which are not worth it, and graphs that fell back.
    """

    def __init__(self, graph: fx.GraphModule, options: CompileOptions, cache: bool = True) -> None:
        self.graph, self.options, self.cache = graph, options, cache
        self.own = [*graph.parameters(), *graph.buffers()]  # where dynamo does not pass weights as inputs
        self.inputs = Inputs.of(graph)
        self.fixed: list[tuple[int, int]] = []  # (place of a tensor, dimension) that changes, and was fixed when it was compiled
        self.known: dict[tuple[Any, ...], tuple[_Weights | None, Run]] = {}  # without weights: in PyTorch, whatever they are

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        """Run the graph on the arguments of dynamo: weights, tensors, sizes and numbers."""
        held, run = self.known.get(self._key(args), (None, None))
        if run is None or not (held is None or held.unchanged(self._weights(args))):
            with EXPORTING:
                if held is not None and held.same_tensors(self._weights(args)):
                    self._note_written(held, args)
                run = self._compiled(args)
        return run(args)

    def _weights(self, args: Sequence[Any]) -> list[torch.Tensor]:
        return [*self.own, *self._given(args)]

    def _given(self, args: Sequence[Any]) -> Sequence[torch.Tensor]:
        """Return the weights that dynamo passes as inputs."""
        return [args[place] for place in self.inputs.weights]

    def _key(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """Return what a module is for, besides the values of its weights."""
        numbers = tuple(number(args[place]) for place in self.inputs.numbers)
        sizes = tuple(args[place].shape[dim] for place, dim in self.fixed)
        return tuple(map(id, self._given(args))), numbers, sizes

    def _note_written(self, held: "_Weights", args: Sequence[Any]) -> None:
        """Make buffers inputs that were written to since they were compiled in; a parameter stays a constant."""
        changed = held.changed(self._weights(args))[len(self.own) :]
        written = {place for place, new in zip(self.inputs.weights, changed, strict=True) if new}
        buffers = {place for place in written if not isinstance(args[place], torch.nn.Parameter)}
        if buffers:
            self.inputs = self.inputs.computing_with(buffers)
            self.known.clear()

    def _compiled(self, args: Sequence[Any]) -> Run:
        """Return what runs the graph for the weights and numbers of a call: compiled, or PyTorch with a line that says why."""
        held: _Weights | None = None
        run: Run = self._in_torch
        if not any(weight.dim() > 1 for weight in self._weights(args)):
            counters["tvm_balanced"]["graphs without a layer"] += 1
        else:
            try:
                run, held = self._module(args), _Weights(self._weights(args))
            except TvmBalancedError as error:
                counters["tvm_balanced"]["graphs that fell back"] += 1
                operators = sum(node.op.startswith("call_") for node in self.graph.graph.nodes)
                log.warning("tvm_balanced leaves a graph of %d operators to PyTorch: %s", operators, error)
        self.known[self._key(args)] = held, run
        return run

    def _in_torch(self, args: Sequence[Any]) -> tuple[Any, ...]:
        result: tuple[Any, ...] = self.graph.forward(*args)
        return result

    def _module(self, args: Sequence[Any]) -> Run:
        self._check(args)
        complete = completion(self.graph)
        shapes = self._dynamic_shapes()
        try:
            module = self._compile(args, shapes if any(shapes) and not self.fixed else None)
        except ModelError as error:
            if not any(shapes) or self.fixed:
                raise
            log.info("compiled for each size apart: %s", error)
            module = self._compile(args, None)
        specs = module[next(iter(module.facts.entry_points))].inputs
        places = zip(self.inputs.tensors, shapes, specs, strict=True)
        fixed = [(place, dim) for place, dims, spec in places for dim in dims if isinstance(spec.shape[dim], int)]
        if fixed != self.fixed:  # from now on a key has these sizes
            self.fixed = fixed
            self.known.clear()
        return self._runner(module, complete)

    def _check(self, args: Sequence[Any]) -> None:
        tensors = [value for value in (*self.own, *args) if isinstance(value, torch.Tensor)]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            raise ModelError("gradients are recorded; call the model within torch.no_grad(), or torch.inference_mode()")
        if not self.inputs.tensors or not any(isinstance(leaf, fx.Node) for leaf in outputs_of(self.graph)):
            raise ModelError("it takes or returns no tensor, so that all of it is constant")
        weights = self._key(args)[0]
        if sum(key[0] == weights for key in self.known) >= MOST:
            raise ModelError(f"it was compiled for {MOST} other numbers or sizes already; give numbers as tensors, or pad")

    def _dynamic_shapes(self) -> list[dict[int, Any]]:
        nodes = self.graph.graph.find_nodes(op="placeholder")
        shapes = [nodes[place].meta["example_value"].shape for place in self.inputs.tensors]
        return [{d: torch.export.Dim.AUTO for d, n in enumerate(s) if _changes(n)} for s in shapes]

    def _compile(self, args: Sequence[Any], shapes: Any) -> CompiledModule:
        """Return the module of a call, from the cache if it is there."""
        key = key_of(self.graph, self.inputs, args, shapes, self.options) if self.cache else None
        found = dynamo_cache.find(key) if key is not None else None
        if found is not None:
            counters["tvm_balanced"]["modules loaded"] += 1
            return found
        module = self._compile_anew(args, shapes)
        if key is not None:
            dynamo_cache.keep(key, module)
        return module

    def _compile_anew(self, args: Sequence[Any], shapes: Any) -> CompiledModule:
        module = plain_module(self.graph, self.inputs, args)
        with torch._guards.tracing(None):
            imported = import_module(module, [args[p] for p in self.inputs.tensors], None, shapes and tuple(shapes))
        compiled = compile_imported(imported, self.options)
        counters["tvm_balanced"]["modules compiled"] += 1
        return compiled

    def _runner(self, module: CompiledModule, complete: Callable[..., tuple[Any, ...]]) -> Run:
        function, places = module[next(iter(module.facts.entry_points))], self.inputs.tensors

        def run(args: Sequence[Any]) -> tuple[Any, ...]:
            return complete(function.flat(*(args[place] for place in places)), args)

        return run


def _changes(size: Any) -> bool:
    """Whether a size may be another one in a later call; a symbol whose value is known by now may not."""
    return isinstance(size, torch.SymInt) and not size.node.expr.is_number


class _Weights:
    """Weights that were compiled in, and how to tell that a call has others. They are not kept alive.

    This is asked at every call, of all weights: so without a call of Python for each of them.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self.gone = False  # one of them: another tensor may have its id
        self.references = [weakref.ref(tensor, self._note_gone) for tensor in tensors]
        self.states = _states(tensors)

    def _note_gone(self, _reference: Any) -> None:
        self.gone = True

    def unchanged(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether tensors with the ids of these are these, with the same values."""
        return not self.gone and _states(tensors) == self.states

    def same_tensors(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether these are the same tensors, which may have other values."""
        return len(tensors) == len(self.references) and all(r() is t for r, t in zip(self.references, tensors, strict=True))

    def changed(self, tensors: Sequence[torch.Tensor]) -> list[bool]:
        """Return which of the tensors have other values."""
        return [old != new for old, new in zip(zip(*self.states, strict=True), zip(*_states(tensors), strict=True), strict=True)]


def _states(tensors: Sequence[torch.Tensor]) -> tuple[list[int], list[int]]:
    """Return what changes where a tensor gets other memory, and where it is written to; an inference tensor counts no writes."""
    pointers = list(map(torch.Tensor.data_ptr, tensors))
    try:
        return pointers, list(map(VERSION, tensors))
    except RuntimeError:  # of an inference tensor
        return pointers, [-1 if tensor.is_inference() else tensor._version for tensor in tensors]
