"""Targets: what a user may write, what the host can run, and what the cost model knows of it."""

from typing import Any

from tvm.target import Target, codegen

from tvm_balanced.core.files import parse_json
from tvm_balanced.errors import TargetError
from tvm_balanced.runtime.cuda import diagnose
from tvm_balanced.runtime.cuda.device import current_gpu
from tvm_balanced.runtime.host import cores, host_target
from tvm_balanced.runtime.target_features import architecture
from tvm_balanced.schedules.base import gpu_specs


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
        parsed = Target(parse_json(target) if isinstance(target, str) else target)
    except (ValueError, TypeError, RuntimeError):
        raise TargetError(
            f'target "{target!s:.100}" is not known; '
            "write cpu, cpu/NAME with a CPU of LLVM, cuda, cuda/NAME, or a TVM target as JSON"
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
    gpu = gpu_specs.GPUS.get(name)
    if gpu is None:
        raise TargetError(f'GPU "{name}" is not known; choose one of {", ".join(gpu_specs.GPUS)}, or give a CUDA target as JSON')
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
        why = diagnose.fault() or "this machine has no NVIDIA GPU"
        raise TargetError(f"{why}; name a GPU to compile for another machine: cuda/{', cuda/'.join(gpu_specs.GPUS)}")
    arch = f"sm_{device.compute_version.replace('.', '')}"
    name = gpu_specs.named(str(device.device_name), arch)
    if name is not None:
        return cuda_target(name)
    limits = {"max_threads_per_block": 1024, "max_shared_memory_per_block": 48 << 10}
    return Target({"kind": "cuda", "arch": arch, **limits, "host": host_target()})
