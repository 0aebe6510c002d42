"""The facts of an installation for a bug report, and its faults."""

import functools
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from tvm_balanced.errors import EnvironmentFaultError

# Versions known to work. tvm-ffi 0.1.15 crashes in every MetaSchedule call and when it saves a module as JSON.
WORKING = {"apache-tvm": SpecifierSet(">=0.27,<0.28"), "apache-tvm-ffi": SpecifierSet(">=0.1.14.post0,<0.1.15")}
PACKAGES = (
    "tvm-balanced",
    "apache-tvm",
    "apache-tvm-ffi",
    "numpy",
    "torch",
    "xgboost",
    "xgboost-cpu",
    "transformers",
    "safetensors",
)
COMPILERS = ("g++", "gcc", "clang++", "clang", "c++", "cc")  # in the order that TVM's linker looks for them


@dataclass(frozen=True)
class Finding:
    """Something about the installation that a user should know: a `fault` if it stops work, else a limitation."""

    fault: bool
    text: str


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that matter."""
    return dict(_versions())


@functools.cache  # looked up twice for each model; reading the packages' metadata takes 10 ms
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def require_working_tvm() -> None:
    """Raise EnvironmentFaultError if the installed TVM is known to crash."""
    faults = [finding.text for finding in version_findings(versions()) if finding.fault]
    if faults:
        raise EnvironmentFaultError(faults[0])


def version_findings(installed: dict[str, str]) -> list[Finding]:
    """Return the faults of the installed versions, given as `versions` returns them."""
    findings = []
    for package, works in WORKING.items():
        version = installed.get(package)
        if version is None:
            findings.append(Finding(True, f"{package} is not installed; run pip install '{package}{works}'"))
        elif not works.contains(version, prereleases=True):
            findings.append(
                Finding(True, f"{package} {version} does not work here, {works} does; run pip install '{package}{works}'")
            )
    return findings


def require_extra(extra: str, modules: Sequence[str]) -> None:
    """Raise EnvironmentFaultError if one of `modules` (import names) is missing, which an extra of
    this package installs.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise EnvironmentFaultError(f"{module} is not installed; run pip install 'tvm-balanced[{extra}]'")


def c_compiler() -> str | None:
    """Return the path of the compiler that links libraries, None if there is none."""
    chosen = os.environ.get("CXX") or os.environ.get("CC")
    return shutil.which(chosen) if chosen else next((path for name in COMPILERS if (path := shutil.which(name))), None)


def describe() -> dict[str, Any]:
    """Return everything that a bug report needs, as plain data; loads TVM if it can be loaded."""
    installed = versions()
    findings = version_findings(installed)
    facts: dict[str, Any] = {
        "versions": installed,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_name(),
        "c_compiler": c_compiler(),
        "gpu": _gpu(),
    }
    if facts["c_compiler"] is None:
        findings.append(Finding(True, "no C compiler was found, so artifacts cannot be saved; install gcc or set CXX"))
    if not any(f.fault for f in version_findings(installed)):
        facts |= _target_facts()
        if "avx512f" not in facts["features"] and platform.machine() == "x86_64":
            findings.append(Finding(False, "this CPU has no AVX-512, so layers run on the portable kernel, which is slower"))
        from tvm_balanced.runtime.cuda import diagnose

        if (why := diagnose.fault()) is not None:
            findings.append(Finding(False, f"{why}; CPU targets are not affected"))
    if facts["gpu"] is None:
        findings.append(Finding(False, "no NVIDIA GPU was found; CPU targets are not affected"))
    if "torch" not in installed:
        findings.append(
            Finding(False, "torch is not installed: artifacts can be loaded and run, and ONNX models compiled; nothing else can")
        )
    return facts | {"findings": findings}


def _target_facts() -> dict[str, Any]:
    from tvm_balanced.runtime import host, target_features

    target = host.host_target()
    return {
        "cores": host.cores(),
        "target": str(target),
        "target_key": target_features.target_key(target),
        "features": sorted(target_features.required_features(target)),
    }


def cpu_name() -> str:
    """Return the CPU's own name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _gpu() -> str | None:
    devices = Path("/proc/driver/nvidia/gpus")
    if not devices.is_dir():
        return None
    for device in sorted(devices.iterdir()):
        for line in (device / "information").read_text().splitlines():
            if line.startswith("Model:"):
                return line.split(":", 1)[1].strip()
    return None
