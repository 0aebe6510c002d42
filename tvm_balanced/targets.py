"""Targets: what a user may write, what the host can run, and what the cost model knows of it."""

import functools
import json
import os
import re
from pathlib import Path
from typing import Any

from tvm.target import Target, codegen

from tvm_balanced.errors import TargetError
from tvm_balanced.gpu import driver
from tvm_balanced.gpu.device import current_gpu
from tvm_balanced.schedules import gpus
from tvm_balanced.schedules.machine import Machine, lanes

# Features that LLVM may use without being asked, once a CPU is named; an artifact needs all that its CPU has of these.
ISA_FEATURES = frozenset(
    """
    sse3 ssse3 sse4.1 sse4.2 popcnt avx avx2 fma f16c bmi bmi2 lzcnt movbe adx aes sha pclmul vaes vpclmulqdq gfni avxvnni
    avx512f avx512bw avx512cd avx512dq avx512vl avx512ifma avx512vbmi avx512vbmi2 avx512vnni avx512bitalg avx512vpopcntdq
    avx512bf16 avx512fp16 avx512vp2intersect amx-tile amx-int8 amx-bf16
    """.split()
)
# LLVM's name to the kernel's, where taking out dots, dashes and underscores does not make them equal.
CPUINFO_NAMES = {"bmi": "bmi1", "lzcnt": "abm", "pclmul": "pclmulqdq", "sse3": "pni", "sha": "shani"}


def parse_target(target: "str | dict[str, Any] | Target | None") -> Target:
    """Return the TVM target that a user means.

    Parameters
    ----------
    target : str, dict, tvm.target.Target or None
        "cpu" or None is this machine; "cpu/NAME" another CPU of this architecture by LLVM's name, for instance
        "cpu/x86-64-v3"; "cuda" is this machine's GPU and "cuda/NAME" one of `schedules.gpus`, for instance "cuda/h200"; a
        dict, or JSON text of one, is TVM's own form.

    Raises
    ------
    TargetError
        Where it is unknown, or of a kind that has no kernels.
    """
    if isinstance(target, Target):
        return _checked(target)
    if target is None or target == "cpu":
        return host_target()
    if isinstance(target, str) and target.startswith("cpu/"):
        return _llvm_target(target.removeprefix("cpu/"))
    if target == "cuda":
        return host_gpu()
    if isinstance(target, str) and target.startswith("cuda/"):
        return cuda_target(target.removeprefix("cuda/"))
    try:
        parsed = Target(json.loads(target) if isinstance(target, str) else target)
    except (ValueError, TypeError, RuntimeError):
        raise TargetError(
            f'target "{target}" is not known; write cpu, cpu/NAME with a CPU of LLVM, cuda, cuda/NAME, or a TVM target as JSON'
        ) from None
    return _checked(parsed)


def _checked(target: Target) -> Target:
    """Return `target` if code can be generated for it: LLVM ends the process over an unknown architecture."""
    if target.kind.name == "cuda":
        if "arch" not in target.attrs:
            raise TargetError("the CUDA target has no arch; add for instance arch sm_90, or write cuda/h200")
        return target if target.host else target.with_host(host_target())
    if target.kind.name != "llvm":
        raise TargetError(f'target kind "{target.kind.name}" has no kernels; write cpu or cuda')
    known = {str(name).replace("-", "_") for name in codegen.llvm_get_targets()} | {"arm64"}
    if architecture(target).replace("-", "_") not in known:
        raise TargetError(
            f'architecture "{architecture(target)}" is not known to LLVM; write for instance aarch64-linux-gnu as mtriple'
        )
    cpu, triple = str(target.attrs.get("mcpu", "")), str(target.attrs.get("mtriple", "")) or codegen.llvm_get_system_triple()
    if cpu and cpu != "generic" and not codegen.llvm_is_valid_cpu(cpu, triple):
        raise TargetError(
            f'CPU "{cpu}" is not known to LLVM for {triple}; write for instance cpu/x86-64-v3, or cpu for this machine'
        )
    return target


def _llvm_target(cpu: str) -> Target:
    return _checked(Target({"kind": "llvm", "mtriple": codegen.llvm_get_system_triple(), "mcpu": cpu, "num-cores": cores()}))


def cuda_target(name: str) -> Target:
    """Return the target of a GPU of `schedules.gpus`, for code that this machine's CPU launches."""
    gpu = gpus.GPUS.get(name)
    if gpu is None:
        raise TargetError(f'GPU "{name}" is not known; choose one of {", ".join(gpus.GPUS)}, or give a CUDA target as JSON')
    return Target(
        {
            "kind": "cuda",
            "arch": gpu.arch,
            "model": name,
            "max_threads_per_block": 1024,
            "max_shared_memory_per_block": 48 << 10,
            "l2_cache_size_bytes": gpu.l2_bytes,
            "host": host_target(),
        }
    )


def host_gpu() -> Target:
    """Return the target of this machine's GPU, torch's current one; raises TargetError where there is none, or TVM sees none."""
    device = current_gpu()
    if not device.exist:
        why = driver.fault() or "this machine has no NVIDIA GPU"
        raise TargetError(f"{why}; name a GPU to compile for another machine: cuda/{', cuda/'.join(gpus.GPUS)}")
    arch = f"sm_{device.compute_version.replace('.', '')}"
    name = gpus.named(str(device.device_name), arch)
    if name is not None:
        return cuda_target(name)
    limits = {"max_threads_per_block": 1024, "max_shared_memory_per_block": 48 << 10}
    return Target({"kind": "cuda", "arch": arch, **limits, "host": host_target()})


def is_gpu(target: Target) -> bool:
    """Whether a target's kernels run on a GPU."""
    return str(target.kind.name) == "cuda"


def cpu_of(target: Target) -> Target:
    """Return the CPU that runs, or launches, what is compiled for a target."""
    return target.host if is_gpu(target) else target


@functools.cache
def host_target() -> Target:
    """Return the target of this machine, without what its hypervisor or kernel hides of the CPU."""
    cpu = codegen.llvm_get_system_cpu()
    full = {"kind": "llvm", "mtriple": codegen.llvm_get_system_triple(), "mcpu": cpu, "num-cores": cores()}
    hidden = sorted(required_features(Target(full)) - host_features())
    return Target(full | {"mattr": [f"-{f}" for f in hidden]} if hidden else full)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def architecture(target: Target) -> str:
    """Return the architecture that a target compiles for, as the first part of LLVM's triple: "x86_64"."""
    triple = str(cpu_of(target).attrs.get("mtriple", "")) or codegen.llvm_get_system_triple()
    return triple.split("-")[0]


def required_features(target: Target) -> frozenset[str]:
    """Return the instruction sets, by LLVM's names, that code for `target` may use."""
    cpu = cpu_of(target)
    disabled = {str(a)[1:] for a in cpu.attrs.get("mattr", []) if str(a).startswith("-")}
    return frozenset(codegen.llvm_get_cpu_features(cpu)) & ISA_FEATURES - disabled


@functools.cache
def host_features() -> frozenset[str]:
    """Return the instruction sets of ISA_FEATURES that this machine runs, as its operating system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next(line for line in lines if line.startswith("flags")).split(":")[1].split()
    except (OSError, StopIteration):
        return (
            frozenset(codegen.llvm_get_cpu_features(Target({"kind": "llvm", "mcpu": codegen.llvm_get_system_cpu()})))
            & ISA_FEATURES
        )
    seen = {_plain(flag) for flag in flags}
    return frozenset(f for f in ISA_FEATURES if _plain(CPUINFO_NAMES.get(f, f)) in seen)


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").replace(".", "")


def missing_features(features: "frozenset[str] | set[str] | list[str]") -> list[str]:
    """Return which of these instruction sets this machine lacks, sorted."""
    return sorted(set(features) - host_features())


def runs_here(target: Target) -> bool:
    """Whether this machine can run code compiled for `target`."""
    if is_gpu(target) and not gpu_runs(str(target.attrs["arch"])):
        return False
    return architecture(target) == architecture(host_target()) and not missing_features(required_features(target))


def gpu_runs(arch: str) -> bool:
    """Whether this machine's GPU, torch's current one, runs code for `arch`: the same major version, and no older minor one."""
    device = current_gpu()
    if not device.exist:
        return False
    digits, here = re.sub(r"\D", "", arch), str(device.compute_version).replace(".", "")
    return digits[:-1] == here[:-1] and digits[-1] <= here[-1]


def threads_of(target: Target, threads: int | None) -> int:
    """Return how many threads a call's kernels run on, all cores by default: 1 on a GPU, whose kernels know of none."""
    return 1 if is_gpu(target) else threads or cores()


def target_key(target: Target) -> str:
    """Return the name of the tuning-log folder of a target: kind, architecture and CPU, or kind, arch and GPU."""
    if is_gpu(target):
        return "-".join(("cuda", str(target.attrs["arch"]), str(target.attrs.get("model", "generic"))))
    return "-".join((target.kind.name, architecture(target), str(target.attrs.get("mcpu", "generic"))))


def user_folder() -> Path:
    """Return where this user's folders of target keys are: under $XDG_CACHE_HOME, by default ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tvm_balanced"


def machine_of(target: Target, threads: int | None = None) -> Machine:
    """Return the rates that the cost model uses for `target` with `threads` threads, all its cores by default.

    They are those of one 3.7 GHz core with two fused multiply-add units; verdicts use only ratios of times, in which the
    clock cancels, and the ratio of arithmetic to bandwidth, which is alike on today's CPUs.
    """
    if is_gpu(target):
        return gpus.machine(target)
    width = lanes(target)
    count = threads or int(target.attrs.get("num-cores", 0)) or cores()
    # measured on a Zen 5 core: 118 GMAC/s with AVX-512, 34 GB/s from memory, 50 GB/s on two cores
    return Machine(cores=count, gmacs=118 * width / 16, gbytes=34, gbytes_all=25 * count if count > 1 else 34, lanes=width)
