import sys

import pytest
from support.fixed_latency import TASKS, fake_seconds

from tvm_balanced.errors import EnvironmentFaultError
from tvm_balanced.runtime.host import host_target
from tvm_balanced.tuning.log.record import Measured
from tvm_balanced.tuning.runners.base import space_of
from tvm_balanced.tuning.search import STRATEGIES
from tvm_balanced.tuning.search.evolutionary import meta_schedule


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


@pytest.mark.parametrize("package", ["cloudpickle", "psutil", "xgboost"])
def test_a_missing_package_gets_one_sentence(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentFaultError, match=rf"{package} is not installed; run pip install 'tvm-balanced\[tune\]'"):
        meta_schedule()
