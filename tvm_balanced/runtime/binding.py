"""Bind the arguments of a call to the inputs of compiled code: as the model itself is called, or flat."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.core.structure import Call, Tree, collect, parts_of, tensors_of
from tvm_balanced.errors import InputError
from tvm_balanced.runtime.metadata import EntryPointSpec


def bind(spec: EntryPointSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Return the tensors of a call in the order of the inputs.

    A call gives what the model's own forward takes, nested alike, by place or by name; None, numbers and texts are those that
    were fixed when the model was compiled, and may be left out. Tensors alone may also be given flat, in the order of the inputs
    or by their names.

    Raises
    ------
    InputError
        If something is missing, unknown, too much, nested in another way, or another value than the one that was fixed.
    """
    if spec.call is None or _is_flat(spec.call, spec.inputs, args, kwargs):
        return _bind_flat(spec.inputs, args, kwargs)
    given = _by_name([name for name, _ in spec.call], args, kwargs, spec.inputs)
    found: dict[int, Any] = {}
    inputs = [one.name for one in spec.inputs]
    for name, tree in spec.call:
        if name in given:
            collect(tree, _as_given(tree, given[name], spec.result), name, inputs, found)
    for place, one in enumerate(spec.inputs):
        if place not in found:
            raise _missing(one.name, spec.inputs)
    return [found[place] for place in range(len(inputs))]


def _as_given(tree: Tree, value: Any, result: Tree | None) -> Any:
    """Return an argument as a first call gives it: without what a model has added to a dict that it changes and returns.

    So the `features` of sentence-transformers, once through the original model, may be given again, as to the model itself.
    """
    if result is None or "dict" not in tree or "dict" not in result or not isinstance(value, Mapping):
        return value
    own, returned = ({key for key, _ in parts_of(one)} for one in (tree, result))
    return {key: part for key, part in value.items() if key in own or key not in returned} if own <= returned else value


def _is_flat(call: Call, inputs: Sequence[TensorSpec], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call gives tensors alone where the model nests them, so that they can only be meant one by one."""
    if not all(hasattr(value, "shape") for value in (*args, *kwargs.values())):
        return False
    if kwargs:
        own, names = {name for name, _ in call}, {one.name for one in inputs}
        return any(name not in own and name in names for name in kwargs)
    if len(args) != len(inputs):
        return False
    holds = [any(True for _ in tensors_of(tree)) for _, tree in call]
    nested = any(has and "tensor" not in tree for has, (_, tree) in zip(holds, call, strict=True))
    while holds and not holds[-1]:  # what is fixed behind the last tensor may be left out
        holds.pop()
    return nested and all(holds)


def _bind_flat(inputs: Sequence[TensorSpec], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    names = [spec.name for spec in inputs]
    args, kwargs = _spread(names, args), {n: v for name, value in kwargs.items() for n, v in _named(name, value)}
    given = _by_name(names, args, kwargs, inputs)
    for name in names:
        if name not in given:
            raise _missing(name, inputs)
    return [given[name] for name in names]


def _by_name(
    names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any], inputs: Sequence[TensorSpec]
) -> dict[str, Any]:
    """Return arguments by name; raises InputError for one that is too much, unknown or given twice."""
    if len(args) > len(names):
        raise InputError(f"{len(args)} inputs were given; the model takes {len(names)}: {_listed(inputs)}")
    given = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in names or name in given:
            raise _not_taken(name, name in given, inputs)
        given[name] = value
    return given


def _missing(name: str, inputs: Sequence[TensorSpec]) -> InputError:
    return InputError(f"input {name} is missing; the model takes {_listed(inputs)}")


def _not_taken(name: str, twice: bool, inputs: Sequence[TensorSpec]) -> InputError:
    return InputError(f'input "{name}" {"was given twice" if twice else "is unknown"}; the model takes {_listed(inputs)}')


def _spread(names: Sequence[str], args: Sequence[Any]) -> list[Any]:
    """Return positional arguments flat: tuples and lists in their order, dicts in the order of the inputs' names."""
    flat: list[Any] = []
    for value in args:
        leaves = dict(_named("", value))
        here = names[len(flat) : len(flat) + len(leaves)]
        if isinstance(value, Mapping) and here:
            prefix = next((here[0].removesuffix(path) for path in leaves if here[0].endswith(path)), "")
            if {prefix + path for path in leaves} != set(here):
                raise InputError(f"a dict with {', '.join(map(str, value))} was given where the model takes {', '.join(here)}")
            flat += [leaves[name.removeprefix(prefix)] for name in here]
        else:
            flat += leaves.values()
    return flat


def _named(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of an argument with the names that torch.export gives them: h of (a, b) has h_0 and h_1."""
    if isinstance(value, (tuple, list)):
        for place, part in enumerate(value):
            yield from _named(f"{name}_{place}", part)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _named(f"{name}_{key}", part)
    else:
        yield name, value


def _listed(inputs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, inputs))
