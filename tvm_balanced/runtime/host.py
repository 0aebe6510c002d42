"""The local machine: its target, its instruction sets, and what it can run."""

import functools
import os
import re
from pathlib import Path

from tvm.target import Target, codegen

from tvm_balanced.runtime.cuda.device import current_gpu
from tvm_balanced.runtime.target_features import ISA_FEATURES, architecture, is_gpu, required_features

# From LLVM's name to the kernel's, for those that differ by more than dots, dashes and underscores.
CPUINFO_NAMES = {"bmi": "bmi1", "lzcnt": "abm", "pclmul": "pclmulqdq", "sse3": "pni", "sha": "shani"} | {
    "neon": "asimd",
    "crc": "crc32",
    "lse": "atomics",
    "rdm": "asimdrdm",
    "rcpc": "lrcpc",
    "dotprod": "asimddp",
    "fullfp16": "asimdhp",
    "fp16fml": "asimdfhm",
    "jsconv": "jscvt",
    "complxnum": "fcma",
}


@functools.cache
def host_target() -> Target:
    """Return the target of this machine, without CPU features that its hypervisor or kernel hides."""
    cpu = codegen.llvm_get_system_cpu()
    full = {"kind": "llvm", "mtriple": codegen.llvm_get_system_triple(), "mcpu": cpu, "num-cores": cores()}
    hidden = sorted(required_features(Target(full)) - host_features())
    return Target(full | {"mattr": [f"-{f}" for f in hidden]} if hidden else full)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def host_features() -> frozenset[str]:
    """Return the instruction sets of ISA_FEATURES that this machine runs, as reported by its operating system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next(line for line in lines if line.startswith(("flags", "Features"))).split(":")[1].split()
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
    """Return the instruction sets among these that this machine lacks, sorted."""
    return sorted(set(features) - host_features())


def runs_here(target: Target) -> bool:
    """Whether this machine can run code compiled for `target`."""
    if is_gpu(target) and not gpu_runs(str(target.attrs["arch"])):
        return False
    return architecture(target) == architecture(host_target()) and not missing_features(required_features(target))


def gpu_runs(arch: str) -> bool:
    """Whether this machine's GPU, torch's current one, runs code for `arch`: the same major
    version, and no older minor one.
    """
    device = current_gpu()
    if not device.exist:
        return False
    digits, here = re.sub(r"\D", "", arch), str(device.compute_version).replace(".", "")
    return digits[:-1] == here[:-1] and digits[-1] <= here[-1]


def threads_of(target: Target, threads: int | None) -> int:
    """Return the number of threads of a call's kernels, by default one per core. It is 1 on a GPU,
    which has no CPU threads.
    """
    return 1 if is_gpu(target) else threads or cores()


def user_folder() -> Path:
    """Return the folder of this user's target keys: under $XDG_CACHE_HOME, by default ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tvm_balanced"
