"""Operators that compiled code asks torch for."""

import json
import math

import numpy as np
import pytest
import torch
import tvm

from tvm_balanced.core.without_torch import _Absent
from tvm_balanced.runtime.torch_operators import ALIGNMENT, installed, run


def told(operator, *args, **kwargs):
    return json.dumps({"operator": operator, "args": args, "kwargs": kwargs})


X = np.random.default_rng(0).standard_normal((6, 7)).astype("float32")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (told("cumsum.default", {"tensor": 0}, 1), X.cumsum(1)),
        (told("sum.dim_IntList", {"tensor": 0}, [0], False, dtype={"torch": "float64"}), X.astype("float64").sum(0)),
        (told("clamp.default", {"tensor": 0}, {"float": "-inf"}, 0.5), X.clip(-math.inf, 0.5)),
        (told("cat.default", [{"tensor": 0}, {"tensor": 1}], 1), np.concatenate([X, X + 1], 1)),
        (told("permute.default", {"tensor": 0}, [1, 0]), X.T),
        (told("select.int", {"tensor": 0}, 0, 1), X[1]),
    ],
    ids=lambda one: json.loads(one)["operator"] if isinstance(one, str) else "",
)
def test_results_are_those_of_numpy_in_memory_of_their_own(text, want):
    given = [tvm.runtime.tensor(X), tvm.runtime.tensor(X + 1)]
    result = run(text, *given)
    np.testing.assert_allclose(result.numpy(), want, rtol=1e-6, atol=1e-6)
    address = torch.from_dlpack(result).data_ptr()
    assert address % ALIGNMENT == 0
    ranges = [(torch.from_dlpack(one).data_ptr(), X.nbytes) for one in given]
    assert not any(start <= address < start + size for start, size in ranges)


def test_an_operator_with_several_results_gives_a_list():
    values, places = run(told("sort.default", {"tensor": 0}, 1), tvm.runtime.tensor(X))
    np.testing.assert_array_equal(values.numpy(), np.sort(X, 1))
    np.testing.assert_array_equal(places.numpy(), np.argsort(X, 1, kind="stable"))


def test_torch_that_is_kept_out_is_not_installed(monkeypatch):
    assert installed()
    monkeypatch.setattr("sys.meta_path", [_Absent()])
    monkeypatch.delitem(__import__("sys").modules, "torch")
    assert not installed()
