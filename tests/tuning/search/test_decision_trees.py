import numpy as np
import pytest
from support.fixed_latency import TASKS, fake_seconds

from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning.plugins.search_strategy import measure_candidate
from tvm_balanced.tuning.search.decision_trees import DecisionTrees, features, ms
from tvm_balanced.tuning.search.tune_context import tune_context

WORKLOAD = TASKS[0].workload


def test_features_are_logarithms_and_their_sums():
    assert features([((1, 8), (2, 4, 4))]).tolist() == [[0, 3, 1, 2, 2, 3, 1, 4, 2, 5, 3, 2, 5, 3, 4]]
    assert np.isfinite(features([((0,), (3, 1))])).all()


def test_metaschedule_teaches_and_asks_it(tmp_path):
    """By its own interface, also after it was saved: faster candidates get higher scores."""
    pytest.importorskip("xgboost")
    space = space_of(WORKLOAD, host_target())
    context = tune_context(space.func, host_target(), task_name=WORKLOAD.title)
    arguments = ms.arg_info.ArgInfo.from_prim_func(space.func)
    points = list(space)[::4]
    candidates = [measure_candidate(space, point, arguments) for point in points]
    trees, loaded = DecisionTrees(), DecisionTrees()
    assert not trees.predict(context, candidates).any()
    trees.update(context, candidates, [ms.runner.RunnerResult([fake_seconds(point)], None) for point in points])
    scores = trees.predict(context, candidates)
    assert np.corrcoef(scores, [-np.log(fake_seconds(point)) for point in points])[0, 1] > 0.9
    trees.save(str(tmp_path / "trees.json"))
    loaded.load(str(tmp_path / "trees.json"))
    np.testing.assert_array_equal(loaded.predict(context, candidates), scores)
