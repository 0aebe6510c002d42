import numpy as np
import pytest
from support.fixed_latency import TASKS, fake_seconds

from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning.log.record import Measured
from tvm_balanced.tuning.search import STRATEGIES
from tvm_balanced.tuning.search import base as module

WORKLOAD = TASKS[0].workload


def make(name, seed=0):
    space = space_of(WORKLOAD, host_target())
    return STRATEGIES[name](space, seed, WORKLOAD, host_target()), space


def search(name, seed=0, trials=10_000, fails=lambda _: False, best=None):
    """The points in the order they are proposed, up to `trials` or `best`, and the space."""
    strategy, space = make(name, seed)
    order = [space.default]
    batch = order
    while batch and len(order) < trials and best not in order:
        strategy.tell([Measured(d, None if fails(d) else fake_seconds(d)) for d in batch])
        batch = strategy.propose(8)
        assert len(batch) <= 8
        order = order + batch
    return order, space


@pytest.mark.parametrize("name", ["model", "replay", "exhaustive"])
def test_every_point_is_proposed_once(name):
    pytest.importorskip("xgboost")
    order, space = search(name)
    assert len(order) == len(set(order)) == len(space)


@pytest.mark.parametrize("name", STRATEGIES)
def test_failed_candidates_are_no_obstacle(name):
    pytest.importorskip("xgboost")
    order, _ = search(name, trials=40, fails=lambda d: d[0][-1] == 1)
    assert len(order) == len(set(order)) >= 40


@pytest.mark.parametrize("name", ["model", "replay"])
def test_the_seed_decides(name):
    pytest.importorskip("xgboost")
    orders = [search(name, seed, trials=48)[0] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("name", ["model", "replay"])
def test_a_search_that_begins_anew_goes_on_as_the_first_would(name):
    pytest.importorskip("xgboost")
    first, space = make(name, 5)
    known = [Measured(space.at(place), fake_seconds(space.at(place))) for place in range(0, 60, 3)]
    first.tell(known[:8])
    first.propose(4)
    first.tell(known[8:])
    second, _ = make(name, 5)
    second.tell(known)
    assert first.propose(4) == second.propose(4)


@pytest.mark.slow
def test_the_model_finds_the_best_sooner_than_chance():
    pytest.importorskip("xgboost")
    best = min(make("replay")[1], key=fake_seconds)

    def needed(name):
        return np.mean([search(name, seed, best=best)[0].index(best) for seed in range(6)])

    assert needed("model") < 0.6 * needed("replay")


def test_large_spaces_are_sampled(monkeypatch):
    monkeypatch.setattr(module, "WHOLE", 20)
    strategy, space = make("replay")
    batch = strategy.propose(8)
    assert len(set(batch)) == 8
    assert all(point in space for point in batch)
