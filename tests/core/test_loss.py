import numpy as np
import pytest

from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.core.loss import losses, measured, overall
from tvm_balanced.errors import InputError

SPECS = [TensorSpec("y", (2, 3), "float32"), TensorSpec("ids", (2,), "int64")]
WANT = [np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]], np.float32), np.array([1, 2])]


def test_norms_cosines_and_first_places():
    got = [np.array([[3.0, 3.0, 0.0], [0.0, 0.0, 4.0]], np.float32), np.array([1, 3])]
    y, ids = losses(SPECS, [WANT], [got], "main")
    assert y.relative_l2 == pytest.approx(np.sqrt(1 + 4) / np.sqrt(9 + 16 + 4))
    assert y.cosine == pytest.approx((21 / (5 * np.sqrt(18)) + 1) / 2)
    assert y.top1 == 0.5 + 0.5 * (np.argmax([3, 3, 0]) == 1)
    assert (ids.relative_l2, ids.cosine, ids.top1) == (0.5, 1.0, 1.0)
    assert overall([y, ids]) == 0.5
    assert "y loses 0.42 of its norm" in str(y)


def test_calls_count_together():
    far = [WANT[0] + 1, WANT[1]]
    together, alone = losses(SPECS, [WANT, WANT], [WANT, far], "main")[0], losses(SPECS, [WANT], [far], "main")[0]
    assert together.relative_l2 == pytest.approx(alone.relative_l2 / np.sqrt(2))


def test_equal_nan_and_infinities_lose_nothing_and_others_everything():
    want = [np.array([[np.nan, np.inf, 1.0]], np.float32)]
    same, other = (losses(SPECS[:1], [want], [[got]], "main")[0].relative_l2 for got in (want[0].copy(), np.zeros((1, 3))))
    assert (same, other) == (0.0, np.inf)
    zeros = [np.zeros((1, 3), np.float32)]
    assert losses(SPECS[:1], [zeros], [zeros], "main")[0].relative_l2 == 0
    assert losses(SPECS[:1], [zeros], [[zeros[0] + 1]], "main")[0].relative_l2 == np.inf


def test_the_callers_metric():
    def metric(expected, actual):
        assert [sorted(call) for call in (*expected, *actual)] == [["ids", "y"]] * 2
        return np.float32(abs(expected[0]["y"] - actual[0]["y"]).max())

    assert measured(metric, SPECS, [WANT], [[WANT[0] + 1, WANT[1]]]) == 1.0
    with pytest.raises(InputError, match="metric failed with ZeroDivisionError"):
        measured(lambda expected, actual: 1 / 0, SPECS, [WANT], [WANT])
    with pytest.raises(InputError, match="what metric returned is 'good'"):
        measured(lambda expected, actual: "good", SPECS, [WANT], [WANT])
