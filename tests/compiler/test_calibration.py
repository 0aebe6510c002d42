import numpy as np
import pytest
import torch

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.compiler.calibration import data_of
from tvm_balanced.core.entry_point import EntryPoint
from tvm_balanced.errors import InputError


@pytest.fixture(scope="module")
def imported(mlp):
    return import_model(*mlp)


def test_the_examples_stand_in(mlp, imported):
    data, what = data_of(imported)
    assert what == "the examples"
    np.testing.assert_array_equal(data["main"].inputs[0][0], mlp[1][0])
    np.testing.assert_allclose(data["main"].want[0][0], mlp[0](*mlp[1]).detach(), rtol=1e-6)


@pytest.mark.parametrize("form", [lambda x: x, lambda x: (x,), lambda x: {"input": x}, lambda x: x.numpy()])
def test_a_batch_is_what_the_model_is_called_with(imported, form):
    data, what = data_of(imported, [form(torch.ones(5, 64)), form(torch.zeros(5, 64))])
    assert what == "2 calls of the calibration data"
    assert [call[0].sum() for call in data["main"].inputs] == [320.0, 0.0]


def test_larger_batches_are_cut(imported):
    x = torch.arange(10.0)[:, None].expand(10, 64)
    first, second = data_of(imported, [x])[0]["main"].inputs
    assert (first[0][0, 0], second[0][0, 0]) == (0, 5)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ([torch.ones(7, 64)], r"batch 0 of the calibration data does not fit: input input has shape \(7, 64\)"),
        ([torch.ones(5, 64).double()], "is float64"),
        ([torch.ones(5, 64), {"y": torch.ones(5, 64)}], 'batch 1 .* "y" is unknown'),
        ([], "has no batches"),
        (torch.ones(5, 64), "is one Tensor"),
        (3, "calibration is 3"),
        ({"decode": [torch.ones(5, 64)]}, 'names entry point "decode"; the model has main'),
    ],
)
def test_what_is_no_data_is_refused(imported, calibration, message):
    with pytest.raises(InputError, match=message):
        data_of(imported, calibration)


def test_entry_points_have_data_of_their_own(mlp):
    model, (x,) = mlp
    imported = import_model(model, entry_points={"many": EntryPoint((x,)), "one": EntryPoint((x[:1],))})
    data, what = data_of(imported, {"one": [x[1:2], x[2:3]]})
    assert (len(data["many"].inputs), len(data["one"].inputs), what) == (1, 2, "2 calls of the calibration data")
    with pytest.raises(InputError, match="the model has many, one; give batches"):
        data_of(imported, [x])


def test_calibration_needs_a_precision(mlp):
    with pytest.raises(InputError, match="give precision int8, int4, bfloat16 or auto with them"):
        tb.compile(*mlp, calibration=[mlp[1]])
