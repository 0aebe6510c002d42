import pytest
from fixed_latency import TASKS, fake_seconds

from tvm_balanced.targets import host_target
from tvm_balanced.tuning.runner import Measured, space_of
from tvm_balanced.tuning.strategy import STRATEGIES


def test_metaschedule_learns_from_what_is_told():
    pytest.importorskip("xgboost")
    workload = TASKS[0].workload
    space = space_of(workload, host_target())
    strategy = STRATEGIES["evolutionary"](space, 0, workload, host_target())
    strategy.tell([Measured(space.default, fake_seconds(space.default)), Measured(space.at(0), None, "it failed")])
    assert len(strategy.database.get_all_tuning_records()) == 1
    batch = strategy.propose(8)
    assert len(batch) == len(set(batch)) == 8
    assert all(point in space and point not in strategy.seen for point in batch)
