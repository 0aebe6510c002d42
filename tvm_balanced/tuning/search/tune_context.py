"""TuneContexts of MetaSchedule without the tensor intrinsics of all targets, which take 5 s of CPU time to import."""

import importlib
import inspect
import logging
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tvm
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.runtime.environment import require_extra
from tvm_balanced.schedules import ALL_KERNELS, Workload

INTRINSICS = "tvm.s_tir.tensor_intrin"  # every TuneContext imports it; none of our kernels needs it
log = logging.getLogger(__name__)


def tune_context(mod: Any, target: Any, **options: Any) -> Any:
    """Return a TuneContext on one thread; options as for MetaSchedule's."""
    with _without_intrinsics():
        # a logger of ours: MetaSchedule's own would fail if the program has handlers of its own
        return ms.TuneContext(mod, target=target, num_threads=1, logger=log, **options)


@contextmanager
def _without_intrinsics() -> Iterator[None]:
    """Let an import of the intrinsics find an empty module, unless they are loaded; it is gone afterwards."""
    if INTRINSICS in sys.modules:
        yield
        return
    sys.modules[INTRINSICS] = types.ModuleType(INTRINSICS)
    try:
        yield
    finally:
        del sys.modules[INTRINSICS]


def load_intrinsics() -> None:
    """Import the intrinsics, as TuneContexts of others do; here in an eighth of the time.

    TVM's parser asks `inspect` for the module of each frame that it is called from. Some frames come from no file of a module,
    such as importlib's; for each of them `inspect` walks all modules, unless its cache already names theirs. Raises
    EnvironmentFaultError if a package that a search of MetaSchedule needs is missing.
    """
    require_extra("tune", ("cloudpickle", "psutil", "xgboost"))
    for name in ("_bootstrap", "_bootstrap_external"):
        inspect.modulesbyfile.setdefault(f"<frozen importlib.{name}>", f"importlib.{name}")
    frame = inspect.currentframe()
    while frame is not None:
        inspect.modulesbyfile.setdefault(frame.f_code.co_filename, frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    importlib.import_module(INTRINSICS)


def space_generator(workload: Workload, target: tvm.target.Target) -> Any:
    """Return the generator of a kernel's own space: nothing is decided by rules, and only tiles are mutated."""
    kernel = ALL_KERNELS[workload.kernel]
    return ms.space_generator.ScheduleFn(
        lambda sch: kernel.space(sch, workload, target),
        sch_rules=[],
        postprocs=[],
        mutator_probs={ms.mutator.MutateTileSize(): 1.0},
    )


def random_state(seed: int, *more: int) -> int:
    """Return a random state that TVM accepts, from 1 up."""
    return 1 + hash((seed, *more)) % (2**31 - 2) if more else 1 + seed % (2**31 - 2)
