"""`tb.compile(..., fallback=True)`: a model that is compiled again, with what PyTorch computes faster left to it."""

import logging
from collections.abc import Callable

from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.errors import InputError
from tvm_balanced.frontend.torch_operators import leaving
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.timing.fallback import faster_in_torch
from tvm_balanced.timing.race import race

log = logging.getLogger(__name__)
Import = Callable[[], ImportedModel]
Compile = Callable[[ImportedModel], CompiledModule]


def compile_with_fallback(import_again: Import, compile_imported: Compile) -> CompiledModule:
    """Compile a model; where it loses the race with PyTorch, compile it again without the operators that are faster there.

    The faster of the two modules is returned: what is left to PyTorch is in its report.

    Parameters
    ----------
    import_again : callable
        Imports the model, each time in the same way.
    compile_imported : callable

    Raises
    ------
    InputError
        Where the model is no PyTorch model with one entry point, or is not raced here: on a GPU, for another machine, or where
        the environment switches races off.
    """
    with leaving(frozenset()):
        imported = import_again()
        if len(imported.entry_points) > 1 or imported.main.operators is None:
            raise InputError("fallback is for a PyTorch model with one entry point; leave fallback out")
        module = race(compile_imported(imported), imported)
    if not module.report.races:
        raise InputError(
            "fallback needs the race with PyTorch, which is not run on a GPU, for another machine, and with TVM_BALANCED_RACE=0; "
            "leave fallback out"
        )
    left = faster_in_torch(module, imported) if module.report.races[0].slower else {}
    if not left:
        return module
    log.info("left to PyTorch: %s", ", ".join(map(str, left.values())))
    with leaving(frozenset(left)):
        imported = import_again()
        imported.left = list(left.values())
        second = race(compile_imported(imported), imported)
    return max(module, second, key=lambda one: one.report.races[0].speedup.p50)
