"""Import several functions of one nn.Module, which share its weights: for instance prefill and
decode of a language model.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tvm
from torch import nn
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_balanced.core.accounting import WeightOrigins
from tvm_balanced.core.entry_point import EntryPoint
from tvm_balanced.core.imported_model import ImportedFunction, ImportedModel, TensorSpec
from tvm_balanced.errors import InputError, TvmBalancedError
from tvm_balanced.frontend.exported_program import Moved, import_exported_program
from tvm_balanced.frontend.module import export, plain_copy, run_as_called, source_of
from tvm_balanced.frontend.structures import plain_dicts, with_defaults

HOOKS = ("_forward_hooks", "_forward_pre_hooks")  # these apply to a call of the module, not of a method


def import_entry_points(model: nn.Module, entry_points: Mapping[str, EntryPoint]) -> ImportedModel:
    """Import several functions of a module through torch.export, each with its own examples. The
    module is not changed.

    Parameters
    ----------
    model : torch.nn.Module
    entry_points : mapping of EntryPoint
        By name; each name is an identifier.

    Raises
    ------
    InputError
        If the module has no such method, or an input cannot be donated.
    ModelError
        If torch cannot export a function, or TVM cannot import the exported program.
    """
    folded, moved = plain_copy(model), Moved()
    imported = {}
    for name, entry in entry_points.items():
        try:
            root = folded if entry.method is None else method_of(folded, entry.method)
            args, kwargs = plain_dicts(tuple(entry.args)), plain_dicts(dict(entry.kwargs or {}))
            program = export(root, args, kwargs, entry.dynamic_shapes)
            imported[name] = import_exported_program(program, source_of(model), [folded], entry.donate, moved)
            imported[name].main.call = with_defaults(imported[name].main.call, root.forward)
            run_as_called(imported[name].main, root, source_of(model))
        except TvmBalancedError as error:
            error.args = (f'entry point "{name}": {error}',)
            raise
    return merged(imported)


def method_of(model: nn.Module, name: str) -> nn.Module:
    """Return a module whose forward is a method of `model`; its parameters are the same, under the same names.

    Raises
    ------
    InputError
        If there is no such method.
    """
    method = getattr(model, name, None)
    if not callable(method) or isinstance(method, nn.Module):
        raise InputError(f'{type(model).__name__} has no method "{name}"; name a method that takes and returns tensors')
    wrapper: nn.Module = type(f"{type(model).__name__}.{name}", (nn.Module,), {})()
    vars(wrapper).update(vars(model) | {hooks: OrderedDict() for hooks in HOOKS} | {"forward": method})
    return wrapper


def merged(models: Mapping[str, ImportedModel]) -> ImportedModel:
    """Return one model that has the "main" of each of `models` as an entry point.

    The symbols of dimensions are prefixed with the entry point's name, because torch gives the same
    names to the first input of every program.

    Parameters
    ----------
    models : mapping of ImportedModel
        By name of the entry point. All are from one module, so that equal weights share their
        memory.
    """
    symbols = {name: _symbols(model.mod["main"], name) for name, model in models.items()}
    # add all entry points first, so that other functions with these names are renamed
    builder = relax.BlockBuilder(tvm.IRModule({name: model.mod["main"] for name, model in models.items()}))
    for name, model in models.items():
        _add(builder, name, model.mod, symbols[name])
    return ImportedModel(
        mod=builder.get(),
        entry_points={name: _renamed(model.main, symbols[name]) for name, model in models.items()},
        weight_names={address: weight for model in models.values() for address, weight in model.weight_names.items()},
        source=next(iter(models.values())).source,
        keep_alive=[owner for model in models.values() for owner in model.keep_alive],
        experts={address: count for model in models.values() for address, count in model.experts.items()},
        origins=WeightOrigins.merged([model.origins for model in models.values()]),
    )


def _symbols(func: relax.Function, name: str) -> dict[str, str]:
    """Return the symbols of a function's dimensions, with their names in a model of several entry points."""
    return {var.name: f"{name}_{var.name}" for var in relax.analysis.defined_symbolic_vars(func)}


def _add(builder: relax.BlockBuilder, name: str, mod: tvm.IRModule, symbols: Mapping[str, str]) -> None:
    """Add the functions of a module to the builder's. `main` is called `name` there and is already present."""
    main = mod.get_global_var("main")
    variables = {var: builder.add_func(func, var.name_hint) for var, func in mod.functions_items() if var != main}
    variables[main] = builder.get().get_global_var(name)
    for old, new in variables.items():
        func = mod[old]
        if isinstance(func, relax.Function):
            func = _with_symbols(_Renamer(builder.get(), variables).visit_expr(func), symbols)
            builder.update_func(new, func.with_attr("global_symbol", name) if old == main else func)


@mutator
class _Renamer(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, variables: Mapping[tvm.ir.GlobalVar, tvm.ir.GlobalVar]) -> None:
        super().__init__(mod)
        self.variables = variables

    def visit_global_var_(self, op: tvm.ir.GlobalVar) -> tvm.ir.GlobalVar:
        return self.variables.get(op, op)


def _with_symbols(func: relax.Function, symbols: Mapping[str, str]) -> relax.Function:
    """Return a function with its dimensions' symbols renamed, also in TVM's bounds of them."""
    found = {var: symbols[var.name] for var in relax.analysis.defined_symbolic_vars(func) if var.name in symbols}
    if found:
        func = func.bind_symbolic_vars({var: tirx.Var(symbol, var.ty) for var, symbol in found.items()})
    for bounds in ("tir_var_lower_bound", "tir_var_upper_bound"):
        if func.attrs is not None and bounds in func.attrs:
            func = func.with_attr(bounds, {symbols.get(symbol, symbol): size for symbol, size in func.attrs[bounds].items()})
    return func


def _renamed(entry: ImportedFunction, symbols: Mapping[str, str]) -> ImportedFunction:
    """Return an entry point with its dimensions' symbols renamed."""

    def dimension(size: Any) -> Any:
        return re.sub(r"[A-Za-z_]\w*", lambda match: symbols.get(match[0], match[0]), size) if isinstance(size, str) else size

    def renamed(specs: list[TensorSpec]) -> list[TensorSpec]:
        return [replace(spec, shape=tuple(map(dimension, spec.shape))) for spec in specs]

    ranges = {symbols.get(symbol, symbol): sizes for symbol, sizes in entry.ranges.items()}
    return replace(entry, inputs=renamed(entry.inputs), outputs=renamed(entry.outputs), ranges=ranges)
