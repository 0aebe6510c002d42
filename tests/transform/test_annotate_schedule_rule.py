import pytest
import tvm
from tvm.s_tir import Schedule

from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.transform.annotate_schedule_rule import AnnotateScheduleRule, annotated, sample

WORKLOAD = Workload("cpu_portable", 4, 64, 64, 2, 16)
TARGET = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 1})


def function(workload=WORKLOAD):
    return KERNELS[workload.kernel].prim_func(workload)


def annotations(func):
    """The rule of each block, from the root in."""
    sch, found = Schedule(func), []
    blocks = [sch.get_sblock("root")]
    for block in blocks:
        blocks += sch.get_child_blocks(block)
        found.append(sch.get(block).annotations.get("schedule_rule"))
    return found


def test_one_block_names_the_rule_and_the_others_are_left_alone():
    func = AnnotateScheduleRule()(tvm.IRModule({"kernel": function()}))["kernel"]
    root, first, *others = annotations(func)
    assert (str(root), str(first)) == ("None", "tvm_balanced")
    assert others
    assert all(str(other) == "None" for other in others)
    assert Workload.of(func) == WORKLOAD
    assert int(func.attrs["estimated_flops"]) == 2 * 4 * 64 * 64 * 2 // 16


@pytest.mark.parametrize(
    "func",
    [
        function(Workload("cpu_portable", None, 64, 64, 2, 16)),
        function().with_attr("tirx.is_scheduled", True),
        function().without_attr("tvm_balanced.workload"),
    ],
    ids=["symbolic", "scheduled", "not ours"],
)
def test_what_cannot_be_tuned_stays_as_it_is(func):
    assert annotated(func) is None


def test_the_rule_samples_the_kernels_own_space():
    with TARGET:
        (sch,) = sample(Schedule(annotated(function()).with_attr("global_symbol", "main")))
    own = KERNELS["cpu_portable"].sampled(function(), WORKLOAD, TARGET)
    assert len(sch.trace.decisions) == len(own.default)


def test_the_rule_is_registered_with_metaschedule():
    assert tvm.get_global_func("s_tir.meta_schedule.cpu.tvm_balanced", allow_missing=True) is not None


def test_another_function_is_refused_by_name():
    with TARGET, pytest.raises(ValueError, match="no kernel of tvm_balanced"):
        sample(Schedule(function().without_attr("tvm_balanced.workload")))
