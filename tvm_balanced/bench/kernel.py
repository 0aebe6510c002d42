"""Benchmark one kernel against its baselines in one process."""

import ctypes
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm

from tvm_balanced.bench.reference import reference_module
from tvm_balanced.bench.result import OURS, Row, rows
from tvm_balanced.compiler.build import build
from tvm_balanced.core.dtypes import numpy_dtype
from tvm_balanced.core.encoding import Array, EncodedWeight
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import PatternError, TargetError
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.huge_pages import collapse
from tvm_balanced.runtime.tensors import aligned, as_tvm, view
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import KERNELS, SPARSE_KERNELS, DenseKernel, SparseKernel, Workload
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.testing.operands import random_weight
from tvm_balanced.timing.paired import PAUSE, Implementation, Timing, copies, measure_paired

Engine = Callable[[Array, Array], Implementation]  # takes a weight (N, K) and x (M, K)


@dataclass(frozen=True)
class KernelBenchmark:
    """What to time: y (M, N) = x (M, K) @ weight (N, K)^T at a pattern; `regime` is hot or cold."""

    n: int
    k: int
    m: int
    pattern: BalancedPattern
    threads: int
    regime: str
    kernel: str | None = None
    rounds: int = 31
    dtype: str = "float32"
    scheduled: Any = None  # the kernel's function in a schedule other than the default

    def run(self) -> list[Row]:
        """Check every baseline and our kernel against NumPy, then time them; errors as in `time`."""
        return rows(self.time())

    def time(
        self, rivals: Collection[str] | None = None, engines: Mapping[str, Engine] | None = None, seconds: float = 60.0
    ) -> Timing:
        """Return the times of our kernel and of every available baseline, round by round.

        Parameters
        ----------
        rivals : collection of str, optional
            Which of PyTorch's baselines and the reference; all by default.
        engines : mapping of name to callable, optional
            More baselines, made for this benchmark's weight and x.
        seconds : float
            See `timing.paired.measure_paired`.

        Raises
        ------
        TargetError
            If the kernel is unknown or cannot run here.
        PatternError
            If the kernel does not support the pattern.
        RuntimeError
            If our kernel or a baseline computes a wrong result.
        """
        import torch

        torch.set_num_threads(self.threads)
        kernel = self._kernel()
        weight, dense, x = self.draw()
        racing = {OURS: self._ours(kernel, weight, dense, x)}
        with torch.no_grad():  # torch.compile does not pack a weight that may be trained
            racing |= self._rivals(rivals, weight, dense, x)
            racing |= {name: make(dense, x) for name, make in (engines or {}).items()}
            expected = _product(x, dense)
            for name, rival in racing.items():
                rounding = (kernel.tolerance or 0.0) if name == OURS else 0.0
                _check(_result(name, rival), expected, name, max(rounding, 1e-5 if self.dtype == "float32" else 1e-2))
            # one call does not bring 9 MB of weights back into a 32 MB cache that a baseline's 67 MB went through
            warm = 1 if self.regime == "cold" else 4
            return measure_paired(racing, self.rounds, seconds, warm, PAUSE if self.threads > 1 else 0.0)

    def as_tuned(self) -> "KernelBenchmark":
        """Return the same with the schedule of the shipped log, or the default if it has none."""
        from tvm_balanced.compiler.tuned_schedules import TunedSchedules

        kernel, target = self._kernel(), host_target()
        workload = self._workload(kernel)
        decisions = TunedSchedules.shipped(target, self.threads)(workload)
        if decisions is None:
            return replace(self, scheduled=None)
        return replace(self, scheduled=kernel.sampled(kernel.prim_func(workload), workload, target).replay(decisions))

    def workload(self) -> Workload:
        """Return the layer as our kernel computes it."""
        return self._workload(self._kernel())

    def draw(self) -> tuple[EncodedWeight, Array, Array]:
        """Return a random weight, the same weight as an array (N, K), and x (M, K); they are always the same."""
        weight = random_weight(self.n, self.k, self.pattern, np.random.default_rng(0), self._as_numpy)
        x = np.random.default_rng(1).standard_normal((self.m, self.k)).astype(self._as_numpy)
        return weight, weight.decode(), aligned(x)

    def _rivals(self, wanted: Collection[str] | None, weight: EncodedWeight, dense: Array, x: Array) -> dict[str, Implementation]:
        from tvm_balanced.bench.pytorch_baselines import BASELINES

        made: dict[str, Implementation] = {}
        here = BASELINES if self.dtype == "float32" else {name: BASELINES[name] for name in ("onednn", "eager")}
        for name in (name for name in here if wanted is None or name in wanted):
            # a CSR weight stores an index of 8 bytes with each value
            nbytes = weight.values.size * 12 if name == "csr" else dense.nbytes
            made[name] = BASELINES[name](dense, x, copies(nbytes, self.regime))
        reference = self._reference(weight, x) if wanted is None or "reference" in wanted else None
        return made if reference is None else made | {"reference": reference}

    @property
    def _as_numpy(self) -> Any:
        return numpy_dtype(self.dtype)

    def _kernel(self) -> SparseKernel | DenseKernel:
        target = host_target()
        if self.kernel is None:
            return self._fastest(target)
        kernel = KERNELS.get(self.kernel)
        if not isinstance(kernel, (SparseKernel, DenseKernel)):
            raise TargetError(f'kernel "{self.kernel}" is unknown; choose one of {", ".join(KERNELS)}')
        refusal = kernel.refuses(target, self.n, self.k, self.dtype)
        if refusal is not None:
            raise TargetError(f"kernel {self.kernel} cannot run here: {refusal}")
        if isinstance(kernel, SparseKernel) and kernel.fit(self._found()) is None:
            raise PatternError(f"kernel {kernel.name} has no layout for {self.pattern}; choose another kernel or pattern")
        return kernel

    def _fastest(self, target: tvm.target.Target) -> SparseKernel:
        """Return the kernel that a model's layer would get if it were sparse."""
        judge = KernelSelector.of(target, self.threads)
        exact = [kernel for kernel in SPARSE_KERNELS if kernel.tolerance is None]
        fitting = [kernel for kernel in exact if kernel.fit(self._found()) == self.pattern]
        takers = [kernel for kernel in fitting if kernel.refuses(target, self.n, self.k, self.dtype) is None]
        if not takers:
            raise TargetError(
                f"no kernel that can run here stores {self.pattern} in {self.dtype}; choose another pattern or dtype"
            )
        return min(takers, key=lambda kernel: judge.seconds(self._workload(kernel), self.m))

    def _found(self) -> Any:
        from tvm_balanced.core.detection import Detection

        return Detection((self.n, self.k), 1, {self.pattern.block: self.pattern.nnz})

    def _workload(self, kernel: SparseKernel | DenseKernel) -> Workload:
        pattern = self.pattern if isinstance(kernel, SparseKernel) else None
        return kernel.workload(self.m, self.n, self.k, pattern, self.dtype)

    def _ours(self, kernel: SparseKernel | DenseKernel, weight: EncodedWeight, dense: Array, x: Array) -> Implementation:
        workload, target = self._workload(kernel), host_target()
        function = self.scheduled or kernel.schedule(kernel.prim_func(workload), workload, target)
        main = build(function.with_attr("global_symbol", "main"), target)["main"]
        packed = kernel.pack(weight) if isinstance(kernel, SparseKernel) else kernel.pack(dense)
        bias = tvm.runtime.tensor(kernel.pack_bias(np.zeros(self.n, self._as_numpy)))
        count = copies(sum(a.nbytes for a in packed), self.regime)
        arguments = [[*(tvm.runtime.tensor(a) for a in packed), bias] for _ in range(count)]
        collapse(tensor for tensors in arguments for tensor in tensors)  # as in a CompiledModule
        given, y = as_tvm(x), tvm.runtime.tensor(np.zeros((self.m, self.n), self._as_numpy))

        def run(call: int) -> Any:
            use_threads(self.threads)
            main(given, *arguments[call % count], y)
            return y

        return run

    def _reference(self, weight: EncodedWeight, x: Array) -> Implementation | None:
        """Return the hand-written kernel; None if this is not a clone with a compiler or the kernel
        does not support the shape.
        """
        module = reference_module()
        tile, row_groups = (1, 4) if self.m == 1 else (8, 2)
        k_tile = next((t for t in (1024, 768, 512, 256) if self.k % t == 0), 0)
        takes = (
            self.pattern.block == 16
            and self.pattern.nnz in (1, 2, 3, 4, 8)
            and k_tile
            and self.m % tile == 0
            and self.n % (16 * row_groups) == 0
        )
        if module is None or not takes:
            return None
        library = module.build(self.dtype, self.pattern.nnz)
        # Use TVM's threads. libgomp's spin without yielding, so that each call might wait milliseconds for a core.
        library.bs_threads(ctypes.cast(ctypes.CDLL(None).TVMBackendParallelLaunch, ctypes.c_void_p))
        values, indices = module.pack(
            weight.values.astype(np.float32), weight.indices.astype(np.int64), self.dtype, k_tile, row_groups
        )
        packed = [
            (module.aligned(values), module.aligned(indices)) for _ in range(copies(values.nbytes + indices.nbytes, self.regime))
        ]
        y = aligned(np.zeros((self.m, self.n), np.float32))

        def run(call: int) -> Array:
            use_threads(self.threads)
            w, i = packed[call % len(packed)]
            pointers = [ctypes.c_void_p(a.ctypes.data) for a in (x, w, i)]
            sizes = (module.MODE[self.dtype], self.pattern.nnz, tile, row_groups, self.m, self.n, self.k, k_tile, 32)
            if library.bs_uni(*sizes, *pointers, None, None, ctypes.c_void_p(y.ctypes.data), self.threads):
                raise RuntimeError("the reference kernel refused its arguments")
            return y

        return run


def _result(name: str, rival: Implementation) -> Array:
    """Return a baseline's result (M, N). One that returns Seconds has a method `result`."""
    y: Any = rival.result() if hasattr(rival, "result") else rival(0)
    if hasattr(y, "float"):  # torch
        y = y.float()
    array = view(y) if isinstance(y, tvm.runtime.Tensor) else np.asarray(y.numpy() if hasattr(y, "numpy") else y)
    return array.T if name == "csr" else array  # CSR computes the transpose


def _product(x: Array, weight: Array) -> Array:
    product: Array = x.astype(np.float64) @ weight.T.astype(np.float64)
    return product


def _check(y: Array, expected: Array, name: str, allowed: float) -> None:
    error = np.abs(y.astype(np.float64) - expected).max() / np.abs(expected).max() if y.shape == expected.shape else np.inf
    if not error < allowed:
        raise RuntimeError(f"{name} is wrong: relative error {error:.1e}")
