from dataclasses import replace

from support.fixed_latency import TASKS

from tvm_balanced.core.ratio import Ratio
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning.log.record import Winner
from tvm_balanced.tuning.search.nearest import distance, first_candidates, fit

WORKLOAD = TASKS[0].workload  # 768 rows
SPACE = space_of(WORKLOAD, host_target())


def winner(workload, decisions, won=True, space=SPACE.fingerprint):
    return Winner("a", workload, 1, space, decisions, won, Ratio(1.2, 1.1, 1.3), 1e-7, "now")


def test_shapes_are_as_far_apart_as_they_double():
    assert distance(WORKLOAD, WORKLOAD) == 0
    assert distance(WORKLOAD, replace(WORKLOAD, n=2 * WORKLOAD.n, m=WORKLOAD.m // 4)) == 3


def test_the_nearest_shape_comes_first_and_what_means_something_else_not_at_all():
    near, far = replace(WORKLOAD, n=512), replace(WORKLOAD, n=128)
    points = [point for point in SPACE if point != SPACE.default]
    won = [winner(far, points[0]), winner(near, points[1])]
    assert first_candidates(WORKLOAD, SPACE, won, 2) == [points[1], points[0]]
    assert first_candidates(WORKLOAD, SPACE, won, 1) == [points[1]]
    others = [
        winner(near, points[2], won=False),
        winner(near, points[2], space="0000"),
        winner(replace(near, kernel="cpu_avx2"), points[2]),
        winner(replace(near, dtype="bfloat16"), points[2]),
        winner(WORKLOAD, points[2]),  # its own is measured anyway
        winner(near, SPACE.default),
    ]
    assert first_candidates(WORKLOAD, SPACE, others, 9) == []


def test_the_outermost_factor_is_what_the_shape_leaves():
    for point in SPACE:
        stretched = tuple((5 * tile[0], *tile[1:]) for tile in point)
        assert fit(stretched, SPACE) == point
    assert fit(SPACE.default[:-1], SPACE) is None


def test_factors_that_the_space_does_not_have_become_the_nearest():
    small = space_of(replace(WORKLOAD, m=2, n=32), host_target())
    assert all(fit(point, small) in small for point in SPACE)
