import tvm
from support.relax_modules import module
from tvm import relax, te, topi
from tvm.s_tir import Schedule
from tvm.s_tir import dlight as dl

from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, RULES, Rule, Workload
from tvm_balanced.schedules.rules.cpu_rowwise import CPU_ROWWISE
from tvm_balanced.transform.fuse_attention import FuseAttention
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
    scheduled = CPU_ROWWISE.schedule(softmax(), host_target()).with_attr("tirx.is_scheduled", True)
    tvm.ir.assert_structural_equal(after["softmax"], scheduled)
    tvm.ir.assert_structural_equal(after["sum"], before["sum"])


def attention():
    """A function whose schedule imports LLVM code, beside its loops."""

    def build(b, q, k, v):
        return relax.op.matmul(b.emit(relax.op.nn.softmax(b.emit(relax.op.matmul(q, k)))), v)

    passes = FuseAttention(), relax.transform.LegalizeOps(), relax.transform.AnnotateTIROpPattern(), relax.transform.FuseTIR()
    with host_target():
        mod = tvm.transform.Sequential(passes)(module(build, (2, 16, 32), (2, 32, 64), (2, 64, 32)))
    (func,) = (func for func in mod.functions.values() if isinstance(func, tvm.tirx.PrimFunc))
    return func.with_attr("global_symbol", "attention")


def mixed():
    return tvm.IRModule({"attention": attention(), "softmax": softmax(), "sum": column_sum()})


def test_a_pipeline_of_dlight_takes_the_rules():
    with host_target():
        after = dl.ApplyDefaultSchedule(*RULES)(mixed())
        tvm.ir.assert_structural_equal(after, ScheduleRemainder()(mixed()))
    assert {name: "tirx.is_scheduled" in after[name].attrs for name in ("attention", "softmax", "sum")} == {
        "attention": True,
        "softmax": True,
        "sum": False,
    }


def test_rules_for_cpus_leave_functions_of_a_gpu_to_others():
    with cuda_target("h200"):
        tvm.ir.assert_structural_equal(dl.ApplyDefaultSchedule(*RULES)(mixed()), mixed())


def test_what_a_rule_does_not_foresee_is_left_to_the_next_one(caplog):
    class Failing(Rule):
        name = "failing"

        def schedule(self, func, target):
            Schedule(func).get_sblock("there is no such block")

    caplog.set_level("DEBUG", "tvm_balanced")
    assert Failing().apply(softmax(), host_target()) is None
    assert "rule failing cannot schedule main" in caplog.text


def test_what_is_scheduled_already_is_left():
    kernel = KERNELS["cpu_portable"]
    workload = Workload("cpu_portable", 4, 32, 64, 2, 16)
    done = kernel.schedule(kernel.prim_func(workload), workload, host_target()).with_attr("tirx.is_scheduled", True)
    mod = tvm.IRModule({"kernel": done})
    with host_target():
        tvm.ir.assert_structural_equal(ScheduleRemainder()(mod), mod)
