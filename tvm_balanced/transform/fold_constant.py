"""Evaluate what is constant, with functions that are built once for all models of the process."""

import functools
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx

from tvm_balanced.transform.lower_dense_ops import left_alone

BUILD = "tirx.build"  # what TVM calls
KEPT = 48  # built functions, 1.1 MB each; a BERT needs 33
_OVERRIDING = threading.RLock()


class Builds:
    """Built functions by what they compute, the last ones that were used; a function of `tvm.tirx.build`'s form."""

    def __init__(self, build: Callable[..., Any], kept: int = KEPT) -> None:
        self._build, self._kept = build, kept
        self._built: OrderedDict[tuple[int, str], tuple[Any, Any]] = OrderedDict()

    def __call__(self, func: tirx.PrimFunc | tvm.IRModule, target: tvm.target.Target) -> Any:
        key = tvm_ffi.structural_hash(func), str(target)
        known, built = self._built.pop(key, (None, None))  # it comes to the end again; another thread builds its own meanwhile
        if known is None or not tvm_ffi.structural_equal(known, func):
            built = self._build(func, target)
        self._built[key] = func, built
        if len(self._built) > self._kept:
            self._built.popitem(last=False)
        return built


@functools.cache
def quick(target: str) -> tvm.target.Target:
    """Return a target of JSON for code that runs once: LLVM optimizes nothing.

    The 28 functions that a BERT of one layer folds are built in 0.12 CPU seconds in place of 0.43.
    """
    given = json.loads(target)
    return tvm.target.Target(given | {"opt-level": 0} if given["kind"] == "llvm" else given)


_builds = Builds(lambda func, target: tvm.tirx.build(func, quick(str(target))))


@contextmanager
def built_before() -> Iterator[None]:
    """Let TVM find functions that it builds while the block runs among those of earlier models.

    TVM folds by building a function for each operator and its shapes, 25 ms each. Most are of masks and positions, and alike in
    models of one kind: a second BERT compiles in two thirds of the time.
    """
    with _OVERRIDING:
        before = tvm_ffi.get_global_func(BUILD)
        tvm_ffi.register_global_func(BUILD, _builds, override=True)
        try:
            yield
        finally:
            tvm_ffi.register_global_func(BUILD, before, override=True)


@tvm.transform.module_pass(opt_level=0, name="FoldConstant")
def fold_constant(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Fold what is constant; TVM's pass legalizes all operators only to look, which packed every weight once in vain."""
    with left_alone(), built_before():
        return relax.transform.FoldConstant()(mod)
