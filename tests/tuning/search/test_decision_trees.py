from dataclasses import replace

import numpy as np
import pytest
from support.fixed_latency import TASKS, fake_seconds

from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning.log.record import Measured
from tvm_balanced.tuning.plugins.search_strategy import measure_candidate
from tvm_balanced.tuning.search.decision_trees import DecisionTrees, features, ms
from tvm_balanced.tuning.search.ranked import Ranked
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


def trials_to_the_best(seed, transfer):
    """How many of the second kernel's points are measured before its best, after all points of the first."""
    trees = DecisionTrees(seed, transfer)
    first, second = (replace(WORKLOAD, n=n) for n in (768, 1536))
    space = space_of(second, host_target())
    trees.join(first, space.fingerprint)
    for point in space_of(first, host_target()):
        trees.learn(first.title, point, fake_seconds(point))
    search, best = Ranked(space, seed, second, trees), min(space, key=fake_seconds)
    batch = [space.default]
    while best not in search.seen:
        search.tell([Measured(point, fake_seconds(point)) for point in batch])
        batch = search.propose(4)
    return list(search.seen).index(best)


def test_the_best_is_found_sooner_with_what_another_shape_has_taught():
    """The planted times depend on the inner factors alone, which both shapes share."""
    pytest.importorskip("xgboost")
    alone, taught = ([trials_to_the_best(seed, transfer) for seed in range(3)] for transfer in (False, True))
    assert max(taught) <= 8
    assert np.mean(taught) < 0.5 * np.mean(alone)
    assert taught == [trials_to_the_best(seed, True) for seed in range(3)]  # the seed decides


def test_only_decisions_that_mean_the_same_are_learned_from():
    trees = DecisionTrees(0, transfer=True)
    other = replace(WORKLOAD, n=256)
    for workload, fingerprint in (
        (WORKLOAD, "a"),
        (other, "a"),
        (replace(other, dtype="bfloat16"), "a"),
        (replace(other, k=32), "b"),
    ):
        trees.join(workload, fingerprint)
        trees.learn(workload.title, ((1, 2),), 1.0)
    assert trees.others(WORKLOAD.title) == [other.title]
    trees.transfer = False
    assert not trees.others(WORKLOAD.title)


def test_forms_of_fewer_factors_are_filled_up():
    assert features([((2,), (1, 4)), ((4,),)])[:, :3].tolist() == [[1, 0, 2], [2, 0, 0]]
