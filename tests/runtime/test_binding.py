import numpy as np
import pytest

from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.errors import InputError
from tvm_balanced.runtime.binding import bind
from tvm_balanced.runtime.metadata import EntryPointSpec

X, H, C, SCALE = (np.full(2, number, np.float32) for number in range(4))
INPUTS = tuple(TensorSpec(name, (2,), "float32") for name in ("x", "state_0", "state_1", "scale"))
CALL = [
    ["x", {"tensor": 0}],
    ["state", {"tuple": [{"tensor": 1}, {"tensor": 2}]}],
    ["scale", {"tensor": 3}],
    ["mask", {"value": None}],
]
NESTED = EntryPointSpec(INPUTS, (), call=CALL)
BETWEEN = EntryPointSpec(INPUTS[:2], (), call=[["x", {"tensor": 0}], ["mask", {"value": None}], ["y", {"tensor": 1}]])


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((X, (H, C), SCALE), {}),
        ((X, [H, C], SCALE, None), {}),
        ((X,), {"scale": SCALE, "state": (H, C), "mask": None}),
        ((), {"x": X, "state": (H, C), "scale": SCALE}),
        ((X, H, C, SCALE), {}),
        ((X,), {"state_0": H, "state_1": C, "scale": SCALE}),
    ],
)
def test_a_call_is_bound_as_the_model_takes_it_or_flat(args, kwargs):
    assert [int(value[0]) for value in bind(NESTED, args, kwargs)] == [0, 1, 2, 3]


def test_a_flat_call_does_not_slip_past_a_value_that_was_fixed():
    assert [int(v[0]) for v in bind(BETWEEN, (X, None, H), {})] == [0, 1]
    with pytest.raises(InputError, match="mask is a ndarray, and was fixed to None"):
        bind(BETWEEN, (X, H), {})


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((X,), {}, "input state_0 is missing; the model takes x: float32"),
        ((X, (H, C), SCALE, None, X), {}, "5 inputs were given; the model takes 4"),
        ((X,), {"x": X, "state": (H, C)}, '"x" was given twice'),
        ((X,), {"nothing": None}, '"nothing" is unknown'),
        ((X, (H, C), SCALE, X), {}, "mask is a ndarray, and was fixed to None"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(args, kwargs, message):
    with pytest.raises(InputError, match=message) as error:
        bind(NESTED, args, kwargs)
    assert "\n" not in str(error.value)


def test_without_a_known_call_tensors_are_spread():
    old = EntryPointSpec(INPUTS, ())
    assert [int(v[0]) for v in bind(old, (X, (H, C)), {"scale": SCALE})] == [0, 1, 2, 3]
