import pytest
import tvm
import tvm_ffi
from tvm import te, tirx
from tvm.s_tir import Schedule

from tvm_balanced.compiler.build import build
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS
from tvm_balanced.schedules.tir.loops import elementwise, without_threads
from tvm_balanced.transform.workarounds.unvectorize_broadcasts import UnvectorizeBroadcasts


def loops(func):
    found = []
    tvm_ffi.structural_walk(func.body, (tirx.For, found.append))
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_matrix_of_one_constant_is_stored(dtype):
    """TVM stores bfloat16 as bits, and forgets to convert a vector of one constant: initial states of a bfloat16 LSTM."""
    full = te.compute((4, 64), lambda *_: tirx.const(1.5, dtype), name="full")
    sch = Schedule(te.create_prim_func([full]))
    elementwise(sch, sch.get_sblock("full"), host_target())
    func = UnvectorizeBroadcasts()(sch.mod)["main"]
    vectors = tirx.ForKind.VECTORIZED in {loop.kind for loop in loops(func)}
    assert vectors == (dtype == "float32")
    y = tvm.runtime.empty((4, 64), dtype)
    build(func.with_attr("global_symbol", "main"), host_target())(y)
    assert (y.numpy().astype("float32") == 1.5).all()


def test_a_function_without_threads_keeps_what_its_loops_import():
    kernel = KERNELS["cpu_dense"]
    workload = kernel.workload(3, 64, 64, None)
    func = kernel.schedule(kernel.prim_func(workload), workload, host_target())
    assert tirx.ForKind.PARALLEL in {loop.kind for loop in loops(func)}
    alone = without_threads(func)
    assert tirx.ForKind.PARALLEL not in {loop.kind for loop in loops(alone)}
    imports = [dict(loop.annotations) for loop in loops(func)]
    assert any("pragma_import_llvm" in annotations for annotations in imports)
    assert [dict(loop.annotations) for loop in loops(alone)] == imports
