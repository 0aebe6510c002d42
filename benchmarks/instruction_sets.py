"""AVX2 beside AVX2: a process in which PyTorch and oneDNN use no wider vectors than ours are compiled for."""

import os
import sys

AVX2 = "cpu/x86-64-v3"
TARGETS = ("cpu", AVX2)
# read by ATen, by oneDNN, and by MKL, when they are loaded
LIMITS = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
LANES = {"cpu": None, AVX2: 8}  # float32 in a vector; None for this machine's


def limits_of(target: str) -> dict[str, str]:
    """Return the environment of a process that measures a target."""
    return LIMITS if target == AVX2 else {}


def restart_within(target: str) -> None:
    """Start this process again, with the same arguments, in the environment that a target needs; return if it has it already."""
    limits = limits_of(target)
    if any(os.environ.get(name) != value for name, value in limits.items()):
        os.environ.update(limits)
        os.execv(sys.executable, [*sys.orig_argv])
