"""Which operators of a slower module PyTorch computes faster: those that `tb.compile(..., fallback=True)` leaves to it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.torch_operator import LeftToTorch, TorchOperator
from tvm_balanced.runtime.compiled_module import CompiledModule

ROUNDS = 5  # calls of a profile
CALL = 15.0  # us of a call from compiled code to PyTorch: tensors of both sides, and Python
SHARE = 0.01  # of a call's time, which leaving an operator must save at least
FASTER = 1.1  # how many times as fast PyTorch must be


def faster_in_torch(module: CompiledModule, imported: ImportedModel) -> dict[str, LeftToTorch]:
    """Return the operators that PyTorch computes faster than a module's functions, by the name of their node.

    Only what computes more than each element by itself is looked at: fused functions are no faster in PyTorch.

    Parameters
    ----------
    module : CompiledModule
        With one entry point; its imported model kept names, see `frontend/torch_operators.py`.
    imported : ImportedModel
        That it was compiled from.
    """
    entry = imported.main
    if entry.operators is None or entry.eager is None:
        return {}
    profile: Any = module.profile(*entry.eager.args, rounds=ROUNDS, **entry.eager.kwargs)
    operators = [one for one in entry.operators(module.threads) if not one.pointwise]
    times = [(row.name, row.microseconds, _computed(row, module.variables, operators)) for row in profile.rows]
    return choose(times)


def choose(times: Iterable[tuple[str, float, Sequence[TorchOperator]]]) -> dict[str, LeftToTorch]:
    """Return the operators to leave to PyTorch.

    Parameters
    ----------
    times : iterable of (str, float, sequence of TorchOperator)
        Of each function its name, its microseconds, and the operators that it computes; one may be spread over several.
    """
    times = list(times)
    ours: dict[str, float] = defaultdict(float)
    functions: dict[str, tuple[float, str]] = {}  # for each operator the function that takes most of its time
    found: dict[str, TorchOperator] = {}
    for function, microseconds, operators in times:
        total = sum(one.microseconds for one in operators)
        for one in operators:
            part = microseconds * one.microseconds / total
            ours[one.node] += part
            functions[one.node] = max(functions.get(one.node, (0.0, "")), (part, function))
            found[one.node] = one
    least = SHARE * sum(microseconds for _, microseconds, _ in times)
    slower: dict[str, list[TorchOperator]] = defaultdict(list)
    for node, one in found.items():
        theirs = one.microseconds + CALL
        if ours[node] > FASTER * theirs and ours[node] - theirs > least:
            slower[functions[node][1]].append(one)
    return {
        one.node: LeftToTorch(
            one.operator, one.layer, function, sum(ours[each.node] for each in ones), sum(each.microseconds for each in ones)
        )
        for function, ones in slower.items()
        for one in ones
    }


def _computed(row: Any, variables: Mapping[str, Set[str]], operators: Sequence[TorchOperator]) -> list[TorchOperator]:
    """Return the operators that a row of a profile is about: by the names of variables, or by the layer's."""
    if row.kernel != "tvm":
        return [one for one in operators if row.name in one.weights]
    names = variables.get(row.name, frozenset())
    return [one for one in operators if any(name.startswith(one.variable) for name in names)]
