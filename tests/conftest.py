"""Fixtures and settings that all tests share."""

import gc
import inspect
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A user's machine profile or tuning logs must not influence tests; only matplotlib may keep its
# font cache.
os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))
# PoCL compiles a GPU kernel for the CPU: 4 s with its optimizations, which no test looks at, and 0.4 s without.
os.environ.setdefault("PYOPENCL_BUILD_OPTIONS", "-cl-opt-disable")
os.environ["TVM_BALANCED_RACE"] = "0"  # three seconds for each module that is compiled
# Where several processes share the cores, threads that wait for one spin: the demo took 63 s of CPU time in place of 5 s to embed
# its sentences. Tests of threads ask for their number.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="tvm_balanced-tests-")

import pytest
from hypothesis import HealthCheck, settings
from support import cpu_times, sample

# Tracing and compiling make very many small objects: with Python's own 700, the search for cycles took an eighth of the time.
gc.set_threshold(50_000, 20, 20)
# TVM's parser asks for the source around every frame; for one of no file `inspect` walks all modules, unless its cache has it.
for frame in ("<ast>", "<frozen runpy>", "<string>", "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"):
    inspect.modulesbyfile.setdefault(frame, "")
# No deadline, because the first example of a property may load TVM. Derandomised, so that a run can
# be repeated.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("default")


def pytest_unconfigure():
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Give all processes of tests one folder for what they build: the one's that started them, which removes it."""
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "built"
    folder.mkdir(exist_ok=True)
    node.workerinput["built"] = str(folder)


def has(feature):
    from tvm_balanced.runtime.host import host_features

    return feature in host_features()


def has_gpu():
    import torch
    import tvm

    return torch.cuda.is_available() and tvm.cuda(0).exist


def skip_reasons():
    """Map each marker to the reason why its tests cannot run here; empty if they can."""
    from tvm_balanced.runtime.cuda import nvcc
    from tvm_balanced.testing import opencl

    return {
        "avx2": "" if has("avx2") else "this CPU has no AVX2",
        "avx512": "" if has("avx512f") else "this CPU has no AVX-512",
        "cuda": "" if has_gpu() else "this machine has no NVIDIA GPU that torch and TVM see",
        "pocl": "" if opencl.available() else "PoCL is not installed (Debian: pocl-opencl-icd)",
        "nvcc": "" if nvcc.available() else "nvcc is not installed",
        "oclgrind": "" if shutil.which("oclgrind") and opencl.available() else "oclgrind is not installed (Debian: oclgrind)",
    }


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write the generated source of tests/golden anew")
    parser.addoption("--cpu-times", action="store_true", help="list the files and tests that take most CPU time")


def pytest_configure(config):
    if config.getoption("--cpu-times"):
        config.pluginmanager.register(cpu_times.CpuTimes())


def shares_a_fixture(item):
    """Whether a test uses a fixture of its whole file, which each process that runs a test of the file would make."""
    found = getattr(item, "_fixtureinfo", None)
    return found is not None and any(defs[-1].scope == "module" for defs in found.name2fixturedefs.values())


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Let each of several processes, which all import all tests, parse the functions in TVMScript that stand in them quickly."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    from tvm_balanced.schedules.base.script_parsing import quick_parsing

    with quick_parsing():
        return (yield)


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config, items):
    if out := sample.left_out(items, config.args):
        config.hook.pytest_deselected(items=out)
        unwanted = set(out)
        items[:] = [item for item in items if item not in unwanted]
    for item in items:
        if not item.get_closest_marker("xdist_group") and shares_a_fixture(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    if getattr(config.option, "loadgroup", False):  # the long ones first, so that no process waits for another at the end
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    reasons = None
    for item in items:
        marked = {mark.name for mark in item.iter_markers()}  # its keywords hold the names of folders, too, such as cuda
        for marker in {"avx2", "avx512", "cuda", "pocl", "nvcc", "oclgrind"} & marked:
            reasons = reasons or skip_reasons()
            if reasons[marker]:
                item.add_marker(pytest.mark.skip(reason=reasons[marker]))


def pytest_collection_finish(session):
    """Stop where pytest-xdist does not keep a group in one process, as with pytest 9.2; then prepare this process for tests."""
    grouped = [item for item in session.items if item.get_closest_marker("xdist_group")]
    if getattr(session.config.option, "loadgroup", False) and not all("@" in item.nodeid for item in grouped):
        raise pytest.UsageError("this pytest-xdist does not group tests with this pytest; install what constraints.txt names")
    if "tvm" in sys.modules:
        from support import built_once

        from tvm_balanced.timing import rates

        built_once.install(getattr(session.config, "workerinput", {}).get("built"))
        rates.READ_BYTES = 16 << 20  # 512 MiB take two seconds in each process; one test looks at what they give
    gc.collect()
    gc.freeze()  # modules and tests stay to the end: no search for cycles need walk them again


@pytest.fixture
def rng():
    import numpy as np

    return np.random.default_rng(0)


@pytest.fixture
def arches():
    """Record the arch of the current target whenever CUDA source is generated. On a machine with a
    GPU, TVM compiles for that arch.
    """
    import tvm
    import tvm_ffi

    name = "tvm_callback_cuda_postproc"  # TVM calls it with the source, right before compiling it
    seen, before = [], tvm_ffi.get_global_func(name, allow_missing=True)

    def note(code, _target):
        current = tvm.target.Target.current(allow_none=True)
        seen.append(current and str(current.attrs["arch"]))
        return code

    tvm_ffi.register_global_func(name, note, override=True)
    yield seen
    if before is None:
        tvm_ffi.registry.remove_global_func(name)
    else:
        tvm_ffi.register_global_func(name, before, override=True)


@pytest.fixture(scope="session")
def mlp():
    """A pruned two-layer module and example inputs. Tests must not change them."""
    import torch
    from torch import nn

    import tvm_balanced as tb

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 40)).eval()
    tb.prune(module, "2:16")
    return module, (torch.randn(5, 64),)


@pytest.fixture(scope="session")
def compiled_mlp(mlp):
    import tvm_balanced as tb

    return tb.compile(*mlp)


@pytest.fixture(scope="session")
def artifact(compiled_mlp, tmp_path_factory):
    """The MLP's artifact. Tests that change it must copy it first."""
    path = tmp_path_factory.mktemp("artifact") / "mlp.tb"
    compiled_mlp.save(path)
    return path
