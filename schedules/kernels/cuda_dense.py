"""Dense layer on a GPU with TVM's own default schedules (dlight), the best dense kernel in the released wheel.

The wheel has no cuBLAS; where torch is in the process, its is called instead (`library_call`). The
weight stays (N, K) as in PyTorch. Tensor cores compute float16 with
large M, or with M known only at the call; CUDA cores compute everything else. Half precision
therefore goes to `cuda_dense_mma` unless the user names this kernel.
"""

from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir import dlight as dl
from tvm.script import tirx as T

from tvm_balanced.core.encoding import Array
from tvm_balanced.schedules.base.expressions import int64
from tvm_balanced.schedules.base.kernel import DenseKernel
from tvm_balanced.schedules.base.roofline import Roofline
from tvm_balanced.schedules.base.space import Decisions
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.layouts.warp_panels import BYTES
from tvm_balanced.schedules.tir.activations import ACTIVATIONS


class CudaDense(DenseKernel):
    """TVM's default GPU schedule of a matrix product; fp32, fp16 and bf16 with sums in fp32."""

    name = "cuda_dense"
    parts = ("weight",)
    kinds = ("cuda", "opencl")
    dtypes = ("float32", "float16", "bfloat16")

    def refuses(self, target: tvm.target.Target, n: int, k: int, dtype: str) -> str | None:
        if target.kind.name not in self.kinds:
            return "the target is not a GPU"
        return None if dtype in self.dtypes else f"it does not compute {dtype}"

    def pack(self, weight: Array) -> tuple[Array, ...]:
        return (weight,)

    def pack_bias(self, bias: Array) -> Array:
        return bias

    def row_stride(self, workload: Workload) -> int:
        return workload.k

    def prim_func(self, workload: Workload) -> tirx.PrimFunc:
        activation, dtype = ACTIVATIONS[workload.activation], workload.dtype
        m = tirx.Var("m", "int64") if workload.m is None else int64(workload.m)
        n_, k_ = int64(workload.n), int64(workload.k)

        def result(total: Any, residual: tirx.Buffer, row: Any, column: Any) -> Any:
            total = total + T.cast(residual[row, column], "float32") if workload.residual else total
            return T.cast(activation(total), dtype)

        @T.prim_func(private=True, s_tir=True)
        def cuda_dense(x_: T.handle, weight_: T.handle, bias_: T.handle, residual_: T.handle, y_: T.handle) -> None:
            T.func_attr({"tirx.noalias": True})
            x = T.match_buffer(x_, (m, k_), dtype)
            weight = T.match_buffer(weight_, (n_, k_), dtype)
            bias = T.match_buffer(bias_, (n_,), dtype)
            residual = T.match_buffer(residual_, (m, n_), dtype)
            y = T.match_buffer(y_, (m, n_), dtype)
            total = T.sblock_alloc_buffer((m, n_), "float32")
            for i, j, c in T.grid(m, n_, k_):
                with T.sblock("dense"):
                    vi, vj, vc = T.axis.remap("SSR", [i, j, c])
                    with T.init():
                        total[vi, vj] = T.float32(0)
                    total[vi, vj] = total[vi, vj] + T.cast(x[vi, vc], "float32") * T.cast(weight[vj, vc], "float32")
            for i, j in T.grid(m, n_):
                with T.sblock("epilogue"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    y[vi, vj] = result(total[vi, vj] + T.cast(bias[vj], "float32"), residual, vi, vj)

        return workload.attach(cuda_dense)

    def space(self, sch: Schedule, workload: Workload, target: tvm.target.Target) -> None:
        """Sample nothing: dlight makes its own schedule, see `schedule_tiles`."""

    def schedule_tiles(
        self, func: tirx.PrimFunc, workload: Workload, target: tvm.target.Target, decisions: Decisions | None = None
    ) -> tirx.PrimFunc:
        for rule in (dl.gpu.Matmul(), dl.gpu.GEMV(), dl.gpu.Reduction(), dl.gpu.Fallback()):
            done = rule.apply(func, target, False)
            if done is not None:
                return (done[0] if isinstance(done, list) else done).mod["main"]
        raise ValueError(f"no rule of dlight schedules {workload}")

    def seconds(self, workload: Workload, m: int, roofline: Roofline) -> float:
        tensor_cores = workload.dtype == "float16" and (workload.m is None or m >= 256)
        rate = roofline.tensor_gmacs if tensor_cores else roofline.gmacs
        # the time of cuBLAS: dlight's kernels are slower, but a verdict must hold against the best
        # dense kernel there is
        macs, nbytes = workload.n * workload.k * m, workload.n * workload.k * BYTES[workload.dtype]
        return roofline.seconds(macs * roofline.gmacs / rate, 0.7, nbytes / 0.85)


CUDA_DENSE = CudaDense()
