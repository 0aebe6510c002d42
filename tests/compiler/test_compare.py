import numpy as np
import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.compiler.compare import check
from tvm_balanced.core.comparison import Comparison, OutputDifference, compare_outputs
from tvm_balanced.core.imported_model import ImportedFunction, ImportedModel, TensorSpec
from tvm_balanced.errors import ToleranceError

SPEC = [TensorSpec("y", (2, 2), "float32")]


class Module:
    """What `check` asks of a compiled module: entry points that compute something of NumPy's."""

    def __init__(self, function):
        self.function, self.report = function, type("Report", (), {"layers": ()})

    def __getitem__(self, _name):
        return self

    def flat(self, *inputs):
        return (self.function(*inputs),)


def checked(model, module, example, **options):
    specs = [TensorSpec("x", example.shape, str(example.dtype))]
    entry = ImportedFunction(specs, SPEC, lambda inputs: [model(*inputs)], [example], **options)
    return check(Module(module), ImportedModel(None, {"main": entry}, {}, "a test"))


EXAMPLE = np.ones((2, 2), np.float32)


def test_what_was_run_is_told():
    found = checked(np.sin, np.sin, EXAMPLE)
    assert [one.inputs for one in found] == ["the examples", "other values", "zeros"]
    assert all(one.ok and one.error == 0 for one in found)


def test_a_fault_that_the_examples_do_not_show_is_found():
    """An additive mask of integers, as a model makes it of an example without padding."""
    mask = np.ones((2, 8), np.int64)
    with pytest.raises(ToleranceError, match=r"y differs from the original model by .* on masks with padding"):
        checked(lambda m: (m == 0) * np.float32(-1e4), lambda m: (m == 0) * np.float32(-1), mask)


def test_another_dtype_or_shape_is_refused():
    with pytest.raises(ToleranceError, match=r"y is bool\[2, 2\], in the original model float32\[2, 2\]"):
        checked(np.sin, lambda x: x > 0, EXAMPLE)
    with pytest.raises(ToleranceError, match=r"y is float32\[2\], in the original model float32\[2, 2\]"):
        checked(np.sin, lambda x: np.sin(x[0]), EXAMPLE)


def test_an_input_on_which_the_model_raises_refuses_nothing():
    def model(x):
        if not x.any():
            raise ValueError("no zeros, please")
        return np.sin(x)

    *_, zeros = checked(model, np.sin, EXAMPLE)
    assert zeros.note == "the original model raises ValueError: no zeros, please"


def test_ranks_that_ties_decide_refuse_nothing_where_the_model_ranks():
    example = np.array([[1.0, 2.0], [4.0, 3.0]], np.float32)
    last = lambda x: x.shape[1] - 1 - x[:, ::-1].argmax(1)  # noqa: E731 - of equal values the last
    found = checked(lambda x: x.argmax(1), last, example, ranks=True)
    assert [one.note for one in found if one.note] == ["only ranks differ, which ties decide"]
    with pytest.raises(ToleranceError, match="on zeros"):
        checked(lambda x: x.argmax(1), last, example)


def test_nothing_is_drawn_once_the_time_is_over(monkeypatch):
    monkeypatch.setattr("tvm_balanced.compiler.compare.SECONDS", -1.0)
    entry = ImportedFunction([TensorSpec("x", (2, 2), "float32")], SPEC, lambda inputs: [np.sin(inputs[0])], [EXAMPLE])
    found = check(Module(np.sin), ImportedModel(None, {"main": entry}, {}, "a test"), seconds=-1.0)
    assert [one.inputs for one in found] == ["the examples"]


def test_outputs_are_compared_one_by_one():
    specs = [TensorSpec("a", (1,), "float32"), TensorSpec("b", (1,), "float32")]
    a, b = np.array([100.0], np.float32), np.array([np.nan], np.float32)
    same = compare_outputs(specs, [a, b], [a + np.float32(5e-3), b])
    assert all(output.ok for output in same)
    (first, second) = compare_outputs(specs, [a, b], [a + 1, a])
    assert (first.ok, second.ok, second.error) == (False, False, float("inf"))
    (one,) = compare_outputs(specs, [a, b], [a])
    assert "1 outputs, the model 2" in one.fault


def test_a_comparison_prints_as_a_table():
    text = str(Comparison("zeros", (OutputDifference("y", 2.0, 1.0), OutputDifference("z", 0.0, 1.0, "is bool[2]"))))
    assert "on zeros" in text
    assert "differs" in text
    assert "is bool[2]" in text


def test_a_module_and_its_model_are_compared_by_hand(mlp, compiled_mlp):
    model, _ = mlp
    model.train()
    found = tb.compare(compiled_mlp, model, torch.randn(5, 64))
    assert model.training
    model.eval()
    assert found.ok
    assert found.error < 1e-5
    other = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 40)).eval()
    assert not tb.compare(compiled_mlp, other, (torch.randn(5, 64),)).ok


def test_what_was_checked_is_known_and_saved(mlp, compiled_mlp, tmp_path):
    checks = compiled_mlp.facts.checks
    assert [check.inputs for check in checks][:2] == ["the examples", "other values"]
    assert compiled_mlp.facts.max_error == max(check.error for check in checks)
    compiled_mlp.save(tmp_path / "m.tb")
    assert tb.load(tmp_path / "m.tb").facts.checks == checks


def test_an_additive_mask_of_integers_is_right_where_the_example_had_no_padding():

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 16)

        def forward(self, x, mask):
            return torch.softmax(self.layer(x) + (mask == 0) * -1e4, -1)

    model = Masked().eval()
    x, mask, padded = torch.randn(2, 16), torch.ones(2, 16, dtype=torch.long), torch.ones(2, 16, dtype=torch.long)
    padded[:, 10:] = 0
    module = tb.compile(model, (x, mask), threads=1)
    torch.testing.assert_close(module(x, padded), model(x, padded), rtol=1e-4, atol=1e-5)
