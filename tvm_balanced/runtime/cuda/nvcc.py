"""What NVIDIA's compiler reports of a kernel: registers, spills, shared memory, and its PTX. Needs no GPU."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tvm_balanced.errors import EnvironmentFaultError

# TVM's options on a machine with a GPU; 177 warns of variables that TVM's code declares and does not use.
OPTIONS = ("-O3", "-std=c++17", "--use_fast_math", "-Xptxas", "--register-usage-level=10", "-diag-suppress", "177")


# Instructions that only code for one architecture may have, and not code that newer GPUs run as well: a GPU of sm_90 has them,
# and nvcc and NVRTC want "sm_90a"
SPECIFIC = {"sm_90": ("wgmma.",)}


@dataclass(frozen=True)
class Resources:
    """Resources of one kernel.

    Parameters
    ----------
    registers : int
        Registers of a thread.
    shared : int
        Static shared memory of a thread block in bytes, as known at compile time.
    spilled : int
        Bytes that a thread stores to and loads from local memory because registers run out.
    stack : int
        Bytes of local memory of a thread, for arrays that are indexed at run time.
    """

    registers: int
    shared: int
    spilled: int
    stack: int


def available() -> bool:
    """Whether nvcc is installed."""
    return shutil.which("nvcc") is not None


def arch_of(source: str, arch: str) -> str:
    """Return what to compile CUDA source for: `arch`, as "sm_90a" if the source has instructions that no other one has."""
    return f"{arch}a" if any(text in source for text in SPECIFIC.get(arch, ())) else arch


def resources(source: str, arch: str) -> dict[str, Resources]:
    """Compile CUDA source to machine code and return the resources of each of its kernels, by name.

    Raises
    ------
    EnvironmentFaultError
        If nvcc is not installed.
    ValueError
        If nvcc rejects the source; the message is nvcc's.
    """
    return _resources(_nvcc(source, arch, "-cubin", "-Xptxas", "-v")[1])


def resources_and_ptx(source: str, arch: str) -> tuple[dict[str, Resources], str]:
    """Return what `resources` and `ptx` do, by one compilation; raises as they do."""
    with tempfile.TemporaryDirectory() as folder:
        report = _nvcc(source, arch, "-cubin", "-Xptxas", "-v", "-keep", "-keep-dir", folder)[1]
        (kept,) = Path(folder).glob("*.ptx")
        return _resources(report), kept.read_text()


def cubin_without_spills(source: str, arch: str) -> bytes:
    """Return the machine code of CUDA source, as `cubin` does, of which no kernel spills.

    Where a kernel is to leave room for more thread blocks than its registers allow, ptxas keeps some of what they hold in local
    memory. That runs, and slowly.

    Raises
    ------
    EnvironmentFaultError
        If nvcc is not installed.
    ValueError
        If nvcc rejects the source, or a kernel spills.
    """
    code, report = _nvcc(source, arch, "-cubin", "-Xptxas", "-v")
    for name, used in _resources(report).items():
        if used.spilled:
            raise ValueError(f"{name} spills {used.spilled} bytes, with {used.registers} registers a thread")
    return code


def _resources(report: str) -> dict[str, Resources]:
    """Return what ptxas says of each kernel in a report."""
    found = {}
    for part in report.split("Compiling entry function '")[1:]:
        name = part.split("'")[0]
        found[name] = Resources(
            registers=_number(r"Used (\d+) registers", part),
            shared=_number(r"(\d+) bytes smem", part),
            spilled=_number(r"(\d+) bytes spill stores", part) + _number(r"(\d+) bytes spill loads", part),
            stack=_number(r"(\d+) bytes stack frame", part),
        )
    return found


def ptx(source: str, arch: str) -> str:
    """Return the PTX of CUDA source; raises as `resources`."""
    return _nvcc(source, arch, "-ptx")[0].decode()


def cubin(source: str, arch: str) -> bytes:
    """Return the machine code of CUDA source; raises as `resources`."""
    return _nvcc(source, arch, "-cubin")[0]


def _nvcc(source: str, arch: str, *options: str) -> tuple[bytes, str]:
    """Return nvcc's output file and the text that it printed."""
    if not available():
        raise EnvironmentFaultError("nvcc was not found; install the CUDA toolkit to compile for a GPU")
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "kernel.cu", Path(folder) / "made"
        given.write_text(source)
        command = ["nvcc", f"-arch={arch_of(source, arch)}", *OPTIONS, *options, str(given), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(done.stderr.strip())
        return made.read_bytes(), done.stderr


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found.group(1)) if found else 0
