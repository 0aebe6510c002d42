import tvm
from tvm import te, topi

from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.transform.schedule_remainder import ScheduleRemainder


def softmax():
    x = te.placeholder((64, 128, 128), name="x")
    return te.create_prim_func([x, topi.nn.softmax(x, -1)], index_dtype_override="int64")


def column_sum():
    x = te.placeholder((64, 7), name="x")
    return te.create_prim_func([x, topi.sum(x, 0)], index_dtype_override="int64")


def test_functions_are_scheduled_or_left_as_they_are():
    before = tvm.IRModule({"softmax": softmax(), "sum": column_sum()})
    with host_target():
        after = ScheduleRemainder()(before)
    assert "tirx.is_scheduled" in after["softmax"].attrs
    assert "T.parallel" in after["softmax"].script()
    tvm.ir.assert_structural_equal(after["sum"], before["sum"])


def test_what_is_scheduled_already_is_left():
    kernel = KERNELS["cpu_portable"]
    workload = Workload("cpu_portable", 4, 32, 64, 2, 16)
    done = kernel.schedule(kernel.prim_func(workload), workload, host_target()).with_attr("tirx.is_scheduled", True)
    mod = tvm.IRModule({"kernel": done})
    with host_target():
        tvm.ir.assert_structural_equal(ScheduleRemainder()(mod), mod)
