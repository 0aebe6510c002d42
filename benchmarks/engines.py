"""How fast is the kernel compared with engines outside PyTorch's eager mode? `python -m benchmarks.engines [--threads N]`.

The engines are MKL's CSR, ONNX Runtime, OpenVINO, torch.compile and DeepSparse, if installed (the
extra `bench`; DeepSparse gets its own environment in build/). Each function takes a weight (N, K),
x (M, K), copies and threads, and returns a baseline that rotates over copies of the weight. Rows
are appended to data/engines.csv.
"""

import argparse
import ctypes
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import deepsparse_process as deepsparse
from benchmarks.cell import COLUMNS, Cell, append, measure, row_of, show, stamp
from benchmarks.deepsparse_process import EngineError
from tvm_balanced.core.encoding import Array
from tvm_balanced.timing.paired import Implementation, copies

Maker = Callable[[Array, Array, int, int], Implementation]
DATA = Path(__file__).parent / "data" / "engines.csv"
# (N, K, M): shapes of transformers, small batch to large
CELLS = ((768, 768, 64), (3072, 768, 16), (3072, 768, 64), (4096, 4096, 64))
PATTERNS = ("4:16", "2:16", "1:16")
TORCH = ("reference", "onednn", "eager", "csr")


@dataclass(frozen=True)
class Engine:
    """A baseline that may not be installed.

    Parameters
    ----------
    make : callable
    packages : tuple of str
        Required packages; their versions go into the row.
    sparse_bytes : int
        The least bytes that it needs per nonzero; 0 if it stores the whole weight.
    """

    make: Maker
    packages: tuple[str, ...]
    sparse_bytes: int = 0

    def missing(self) -> str | None:
        """Return in a few words what is missing, None if the engine can run."""
        absent = [name for name in self.packages if not _installed(name)]
        return f"{', '.join(absent)} not installed; run pip install 'tvm-balanced[bench]'" if absent else None

    def versions(self) -> str:
        """Return its packages with their versions."""
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in self.packages)

    def bound(self, regime: str, threads: int) -> Callable[[Array, Array], Implementation]:
        """Return a function of (weight, x) that makes the baseline for a regime and a number of threads."""

        def make(weight: Array, x: Array) -> Implementation:
            nbytes = np.count_nonzero(weight) * self.sparse_bytes if self.sparse_bytes else weight.nbytes
            return self.make(weight, x, copies(int(nbytes), regime), threads)

        return make


@dataclass(frozen=True)
class DeepSparse(Engine):
    """DeepSparse, whose pinned dependencies need an environment of their own."""

    def missing(self) -> str | None:
        absent = "its environment is not there; run python -m benchmarks.deepsparse_process"
        return super().missing() if deepsparse.installed() else absent

    def versions(self) -> str:
        return deepsparse.REQUIREMENT.replace("==", " ")


def mkl_csr(weight: Array, x: Array, copies: int, threads: int) -> Implementation:
    """MKL's sparse BLAS on handles that are hinted and optimised once; sparse_dot_mkl creates a new
    one in every call.

    x is transposed in advance and y left transposed. With rows of x, as in dense layers, MKL takes
    three times as long.
    """
    lib = _load_mkl(threads)
    m, n = len(x), len(weight)
    given = np.ascontiguousarray(x.T)
    y = np.zeros((n, m), np.float32)
    handles = [_MklMatrix(lib, weight, m) for _ in range(copies)]
    product: Callable[[Any], int]
    if m == 1:
        product = lambda h: lib.mkl_sparse_s_mv(10, 1.0, h, _GENERAL, given.ctypes.data, 0.0, y.ctypes.data)  # noqa: E731
    else:
        product = lambda h: lib.mkl_sparse_s_mm(  # noqa: E731
            10, 1.0, h, _GENERAL, _ROW_MAJOR, given.ctypes.data, m, m, 0.0, y.ctypes.data, m
        )

    def run(call: int) -> Array:
        _succeed(product(handles[call % copies].handle))
        return y.T

    return run


def onnx_runtime(weight: Array, x: Array, copies: int, threads: int) -> Implementation:
    """ONNX Runtime's dense MatMul, with its input and output bound in advance."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    y = np.zeros((len(x), len(weight)), np.float32)

    def session(model: Path) -> Callable[[], None]:
        made = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        binding = made.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
        return partial(made.run_with_iobinding, binding)

    with tempfile.TemporaryDirectory() as folder:
        model = write_onnx(weight, len(x), Path(folder) / "dense.onnx")
        sessions = [session(model) for _ in range(copies)]

    def run(call: int) -> Array:
        sessions[call % copies]()
        return y

    return run


def openvino(weight: Array, x: Array, copies: int, threads: int) -> Implementation:
    """OpenVINO's dense MatMul in float32. By default it computes in bfloat16 if the CPU can."""
    import openvino as ov

    # not pinned: pinned threads would share a core with the other baselines'
    hints = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    core = ov.Core()

    def request(model: Path) -> Any:
        made = core.compile_model(model, "CPU", {**hints, "INFERENCE_NUM_THREADS": threads}).create_infer_request()
        made.set_input_tensor(ov.Tensor(x, shared_memory=True))
        return made

    with tempfile.TemporaryDirectory() as folder:
        model = write_onnx(weight, len(x), Path(folder) / "dense.onnx")
        requests = [request(model) for _ in range(copies)]
    return lambda call: requests[call % copies].infer(share_outputs=True)[0]


def torch_compile(weight: Array, x: Array, copies: int, threads: int) -> Implementation:
    """torch.compile of nn.Linear with freezing, which packs the weight."""
    import torch
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    torch.set_num_threads(threads)
    inductor.freezing, inductor.compile_threads = True, 1  # no processes that outlive the compilation
    dynamo.recompile_limit = max(dynamo.recompile_limit, 2 * copies)  # every copy is a module of its own, and compiled again
    given = torch.from_numpy(x)

    def module() -> Any:
        linear = torch.nn.Linear(weight.shape[1], len(weight), bias=False).eval()
        linear.weight = torch.nn.Parameter(torch.from_numpy(weight.copy()), requires_grad=False)
        compiled = torch.compile(linear)
        compiled(given)
        return compiled

    modules = [module() for _ in range(copies)]
    return lambda call: modules[call % copies](given)


def deep_sparse(weight: Array, x: Array, copies: int, threads: int) -> Implementation:
    """DeepSparse in its own process, which times its calls. Its engines share equal weights, so
    each copy is rolled.
    """
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "x.npy", x)
        worker = deepsparse.Worker(Path(folder), threads)
        for copy in range(copies):
            worker.load(write_onnx(np.roll(weight, copy, axis=0), len(x), Path(folder) / "dense.onnx"), len(x))
        worker.fetch_result()
    return worker


ENGINES: dict[str, Engine] = {
    "mkl csr": Engine(mkl_csr, ("mkl",), sparse_bytes=8),
    "onnxruntime": Engine(onnx_runtime, ("onnx", "onnxruntime")),
    "openvino": Engine(openvino, ("onnx", "openvino")),
    "torch.compile": Engine(torch_compile, ("torch",)),
    "deepsparse": DeepSparse(deep_sparse, ("onnx",), sparse_bytes=4),
}


def available(names: Sequence[str] = tuple(ENGINES), say: Callable[[str], object] = print) -> tuple[str, ...]:
    """Return those of `names` that are installed; for each other one, print in one line why it is left out."""
    missing = {name: ENGINES[name].missing() for name in names}
    for name, why in missing.items():
        if why:
            say(f"{name} is left out: {why}")
    return tuple(name for name, why in missing.items() if why is None)


def write_onnx(weight: Array, rows: int, path: Path) -> Path:
    """Write y = MatMul(x, weight^T) for x of `rows` rows, in a format that DeepSparse 1.8 can read,
    and return the path.
    """
    import onnx
    from onnx import helper, numpy_helper

    n, k = weight.shape
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (rows, size)) for name, size in (("x", k), ("y", n)))
    constant = numpy_helper.from_array(np.ascontiguousarray(weight.T), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "dense", [x], [y], [constant])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


class _Description(ctypes.Structure):
    """MKL's struct matrix_descr."""

    _fields_ = (("type", ctypes.c_int), ("mode", ctypes.c_int), ("diag", ctypes.c_int))


_GENERAL, _ROW_MAJOR = _Description(20, 0, 0), 101
_CALLS = 1000  # the number of calls that MKL is told to expect


class _MklMatrix:
    """A CSR weight (N, K) as an MKL handle, prepared for products with M columns."""

    def __init__(self, lib: ctypes.CDLL, weight: Array, m: int) -> None:
        rows, columns = np.nonzero(weight)
        self.values, self.columns = weight[rows, columns], columns.astype(np.int32)
        self.starts = np.searchsorted(rows, np.arange(len(weight) + 1)).astype(np.int32)
        self.handle = ctypes.c_void_p()
        start = self.starts.ctypes.data
        arrays = [ctypes.c_void_p(p) for p in (start, start + 4, self.columns.ctypes.data, self.values.ctypes.data)]
        _succeed(lib.mkl_sparse_s_create_csr(ctypes.byref(self.handle), 0, *weight.shape, *arrays))
        if m == 1:
            _succeed(lib.mkl_sparse_set_mv_hint(self.handle, 10, _GENERAL, _CALLS))
        else:
            _succeed(lib.mkl_sparse_set_mm_hint(self.handle, 10, _GENERAL, _ROW_MAJOR, m, _CALLS))
        _succeed(lib.mkl_sparse_optimize(self.handle))


def _load_mkl(threads: int) -> ctypes.CDLL:
    """Load MKL from the package mkl. PyTorch's own copy is linked in and exports no sparse functions."""
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # its threads would otherwise spin for 200 ms, into the next baselines' calls
    files = importlib.metadata.files("mkl") or []
    path = next(file for file in files if file.name.startswith("libmkl_rt.so"))
    lib = ctypes.CDLL(str(path.locate()))
    pointer, integer, single = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
    described = [pointer, integer, _Description]
    lib.mkl_sparse_s_mm.argtypes = [
        *(integer, single, pointer, _Description, integer, pointer, integer, integer, single, pointer, integer)
    ]
    lib.mkl_sparse_s_mv.argtypes = [integer, single, pointer, _Description, pointer, single, pointer]
    lib.mkl_sparse_set_mm_hint.argtypes = [*described, integer, integer, integer]
    lib.mkl_sparse_set_mv_hint.argtypes = [*described, integer]
    lib.mkl_sparse_optimize.argtypes = [pointer]
    lib.MKL_Set_Num_Threads(threads)
    return lib


def _succeed(status: int) -> None:
    if status:
        raise EngineError(f"MKL returned status {status}")


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def main() -> int:
    """Measure all cells, print them, and append them to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS))
    parser.add_argument("--shapes", nargs="+", default=[",".join(map(str, cell)) for cell in CELLS], help="N,K,M")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--seconds", type=float, default=30, help="of timing, for each cell")
    options = parser.parse_args()
    deepsparse.try_install(options.engines)
    rivals = (*TORCH, *available(options.engines))
    table = Table("N x K, M", "pattern", "regime", "us", *(f"over {name}" for name in rivals))
    for shape in options.shapes:
        for pattern in options.patterns:
            n, k, m = map(int, shape.split(","))
            cell = Cell(n, k, m, pattern, options.threads)
            result = measure(cell, rivals, options.seconds)
            append(DATA, COLUMNS, [stamp() | row_of(cell, rival, timing) for rival, timing in result.items()])
            table.add_row(f"{cell.n}x{cell.k}, {cell.m}", pattern, cell.regime, *show(result, rivals))
    Console(width=60 + 22 * len(rivals)).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
