"""Balanced sparsity for Apache TVM.

    import tvm_balanced as tb

    tb.prune(model, "2:16")
    module = tb.compile(model, (x,))
    y = module(x)
    print(module.report)
    module.save("model.tb")
    module = tb.load("model.tb")
    tb.tune(model, (x,), minutes=10)

Naming one of these loads what it needs; importing the package loads nothing heavy.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# TVM starts its threads once, for half the cores unless it is told before it is imported. Fewer can be chosen later.
_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
os.environ.setdefault("TVM_NUM_THREADS", str(_cores))
# Rounds in which they look for work, yielding, before they sleep: 0.7 ms. TVM's own 300,000 keep a core busy for 0.2 s after a
# call, and PyTorch's threads, woken on the core that is left, took 8 ms for a layer of 0.1 ms (two threads on two cores). Calls
# further apart take 40 us longer instead, to wake them.
os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", "1000")

if TYPE_CHECKING:
    from tvm_balanced.api import (
        allocate,
        compare,
        compile,
        compile_causal_lm,
        compile_seq2seq_lm,
        distill,
        inspect,
        load,
        prune,
        save,
        self_test,
        tune,
    )
    from tvm_balanced.core.entry_point import EntryPoint
    from tvm_balanced.core.pattern import BalancedPattern
    from tvm_balanced.errors import TvmBalancedError
    from tvm_balanced.frontend.pruning.gradual import GradualPruning
    from tvm_balanced.runtime.causal_lm import CausalLM, Seq2SeqLM
    from tvm_balanced.runtime.compiled_module import CompiledModule
    from tvm_balanced.tuning.rpc.tracker import RpcOptions

__version__ = "0.1.0"
__all__ = [
    "BalancedPattern",
    "CausalLM",
    "CompiledModule",
    "EntryPoint",
    "GradualPruning",
    "RpcOptions",
    "Seq2SeqLM",
    "TvmBalancedError",
    "__version__",
    "allocate",
    "compare",
    "compile",
    "compile_causal_lm",
    "compile_seq2seq_lm",
    "distill",
    "inspect",
    "load",
    "prune",
    "save",
    "self_test",
    "tune",
]

_HOMES = {
    "allocate": "api",
    "compare": "api",
    "compile": "api",
    "compile_causal_lm": "api",
    "compile_seq2seq_lm": "api",
    "distill": "api",
    "inspect": "api",
    "load": "api",
    "prune": "api",
    "save": "api",
    "self_test": "api",
    "tune": "api",
    "CausalLM": "runtime.causal_lm",
    "Seq2SeqLM": "runtime.causal_lm",
    "CompiledModule": "runtime.compiled_module",
    "EntryPoint": "core.entry_point",
    "BalancedPattern": "core.pattern",
    "GradualPruning": "frontend.pruning.gradual",
    "RpcOptions": "tuning.rpc.tracker",
    "TvmBalancedError": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tvm_balanced.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
