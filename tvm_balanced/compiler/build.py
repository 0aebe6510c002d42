"""Building scheduled code: TVM's own compile, but for what LLVM is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tvm
from tvm import tirx

from tvm_balanced.schedules.base.cuda_config import PASS_CONFIG

# LLVM's SLP vectorizer gathers scalar work into vectors. All that gains from vectors here is written in them; what it finds are
# indices, which it loads as a vector and takes apart again: cpu_portable at 4:16 takes 1.2x the time with AVX2 at M = 64 and 1.8x
# at M = 8, at 2:16 with AVX-512 1.5x at M = 16. MiniLM: 0.99 to 1.01x on four cells.
OPTIONS = ("-vectorize-slp:bool=false",)
# TVM looks for common subexpressions before LLVM, which finds them again: machine code takes a tenth less time without, and is
# the same or shorter (a dense layer and an encoder of any batch, AVX-512: 14777 and 36276 instructions, 14775 and 36556 with it).
CONFIG = {"tirx.disable_cse_tir": True}
# They look for threads and memory that only GPUs have, each in the whole unrolled function: a tenth of the time of TVM's passes.
GPU_PASSES = (
    *("s_tir.ThreadSync", "s_tir.InferFragment", "s_tir.LowerThreadAllreduce", "s_tir.MergeSharedMemoryAllocations"),
    *("s_tir.InjectPermutedLayout", "s_tir.TransformMmaBufferLayout", "s_tir.InjectVirtualThread", "s_tir.LowerAutoCopy"),
    "s_tir.LowerVtcmAlloc",
)


def build(code: tvm.IRModule | tvm.tirx.PrimFunc, target: tvm.target.Target, **options: Any) -> Any:
    """Return `code` built for `target`, an executable; further options are those of tvm.compile."""
    with plain_passes(target):
        return tvm.compile(code, with_llvm_options(target), **options)


def build_candidate(mod: tvm.IRModule, target: tvm.target.Target) -> str:
    """Build a candidate of MetaSchedule as a module of ours is built, and return the path of the archive that its runner takes.

    MetaSchedule's own function first imports the tensor intrinsics of all targets in each worker, which takes longer than its
    timeout.
    """
    from tvm.s_tir.meta_schedule.builder.local_builder import default_export

    with plain_passes(target):
        path: str = default_export(tvm.tirx.build(mod, target=with_llvm_options(target)))
    return path


@contextmanager
def plain_passes(target: tvm.target.Target) -> Iterator[None]:
    """Leave out, while the block runs, passes of TVM that LLVM repeats or that are for GPUs; other compilers get all of them."""
    if target.kind.name != "llvm":
        yield
        return
    now = tvm.transform.PassContext.current()
    config = {**now.config, **CONFIG}
    disabled = [*now.disabled_pass, *GPU_PASSES]
    with tvm.transform.PassContext(now.opt_level, now.required_pass, disabled, now.instruments, config):
        yield


def with_llvm_options(target: tvm.target.Target) -> tvm.target.Target:
    """Return `target` with what LLVM is told about it; other compilers are told nothing, but for the host's."""
    if target.kind.name != "llvm":
        return target.with_host(with_llvm_options(target.host)) if target.host else target
    config = dict(target.export())
    return tvm.target.Target(config | {"cl-opt": [*config.get("cl-opt", []), *OPTIONS]})


def cuda_source(func: tirx.PrimFunc, arch: str) -> str:
    """Return the CUDA source of a scheduled function for `arch`, as "sm_90"."""
    target = tvm.target.Target({"kind": "cuda", "arch": arch}, host="llvm")
    with target, tvm.transform.PassContext(config=PASS_CONFIG):
        built = tvm.tirx.build(func.with_attr("global_symbol", "main"), target=target)
    return str(built.imports[0].inspect_source())
