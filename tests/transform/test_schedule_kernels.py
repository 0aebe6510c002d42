import tvm
from tvm.script import tirx as T

from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.transform.schedule_kernels import ScheduleKernels

WORKLOAD = Workload("cpu_portable", 4, 32, 64, 2, 16)


@T.prim_func(s_tir=True)
def other(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
    for i in range(4):
        with T.sblock("copy"):
            vi = T.axis.spatial(4, i)
            y[vi] = x[vi]


def test_our_functions_get_the_default_schedule_and_others_are_left():
    kernel = KERNELS["cpu_portable"]
    before = tvm.IRModule({"kernel": kernel.prim_func(WORKLOAD), "other": other})
    with host_target():
        after = ScheduleKernels()(before)
    expected = kernel.schedule(kernel.prim_func(WORKLOAD), WORKLOAD, host_target()).with_attr("tirx.is_scheduled", True)
    tvm.ir.assert_structural_equal(after["kernel"], expected)
    tvm.ir.assert_structural_equal(after["other"], other)


def test_a_scheduled_function_is_not_scheduled_again():
    kernel = KERNELS["cpu_portable"]
    mod = tvm.IRModule({"kernel": kernel.prim_func(WORKLOAD)})
    with host_target():
        once = ScheduleKernels()(mod)
        tvm.ir.assert_structural_equal(ScheduleKernels()(once), once)
