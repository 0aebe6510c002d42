"""A compiled module is called as its model is: constants, nesting, dataclasses; also from a file, and where torch is absent."""

import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import InputError
from tvm_balanced.frontend.structures import with_defaults
from tvm_balanced.timing import race as race_module


@dataclass
class Batch:
    tokens: torch.Tensor
    extra: dict
    mask: torch.Tensor | None = None


class Model(nn.Module):
    def forward(self, batch, pair, *, times=1, note=None):
        y = batch.tokens * batch.extra["scale"] + pair[0] - pair[1][0]
        y = y if batch.mask is None else y * batch.mask
        return {"y": y * times, "note": note, "pair": [pair[0], (times, None)]}


sys.modules.setdefault("test_structures", sys.modules[__name__])  # importlib mode leaves a test module out


def arguments(kind=torch.Tensor):
    tensors = [torch.full((2, 3), float(number)) for number in (2, 3, 5, 7)]
    a, b, c, d = tensors if kind is torch.Tensor else [tensor.numpy() for tensor in tensors]
    return Batch(a, {"scale": b}), (c, [d])


@pytest.fixture(scope="module")
def compiled():
    return tb.compile(Model(), arguments(), {"times": 2}, threads=1)


def test_dataclasses_and_constants_go_in_and_come_out(compiled, tmp_path):
    batch, pair = arguments()
    want = Model()(batch, pair, times=2)
    compiled.save(tmp_path / "m.tb")
    for module in (compiled, tb.load(tmp_path / "m.tb")):
        for args, kwargs in [
            ((batch, pair), {"times": 2}),
            ((batch, list(pair)), {"times": 2, "note": None}),
            (({"tokens": batch.tokens, "extra": batch.extra},), {"pair": pair}),
        ]:
            got = module(*args, **kwargs)
            torch.testing.assert_close(got["y"], want["y"])
            assert (got["note"], got["pair"][1]) == (None, (2, None))
        arrays = module(*arguments(np.ndarray))
        assert isinstance(arrays["pair"][0], np.ndarray)
        np.testing.assert_array_equal(arrays["y"], want["y"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch, pair: ((batch, pair), {"times": 3}), "times is 3, and was fixed to 2"),
        (lambda batch, pair: ((batch, pair), {"note": "x"}), "note is 'x', and was fixed to None"),
        (lambda batch, pair: ((batch, pair[:1]), {}), "pair has 1 parts; the model takes 2"),
        (lambda batch, pair: ((Batch(batch.tokens, {}), pair), {}), "a dict with nothing in it was given where the model takes"),
        (lambda batch, pair: ((Batch(*vars(batch).values()), pair), {"more": 1}), '"more" is unknown'),
        (
            lambda batch, pair: ((Batch(batch.tokens, batch.extra, batch.tokens), pair), {}),
            "batch_mask is a Tensor, and",
        ),
        (lambda batch, pair: ((batch,), {}), "input pair_0 is missing"),
    ],
)
def test_another_call_gets_one_sentence(compiled, change, message):
    args, kwargs = change(*arguments())
    with pytest.raises(InputError, match=message) as error:
        compiled(*args, **kwargs)
    assert "\n" not in str(error.value)


class Scaled(nn.Module):
    def forward(self, x, scale=None, double=False):
        return (x * (1 if scale is None else scale) * (2 if double else 1), None)


def test_an_exported_program_from_a_file_keeps_its_call(tmp_path):
    x = torch.ones(2, 3)
    torch.export.save(torch.export.export(Scaled(), (x, None), {"double": True}), tmp_path / "m.pt2")
    module = tb.compile(tmp_path / "m.pt2", threads=1)
    for args, kwargs in [((x, None), {"double": True}), ((x,), {}), ((), {"x": x, "scale": None})]:
        y, nothing = module(*args, **kwargs)
        assert torch.equal(y, 2 * x)
        assert nothing is None
    with pytest.raises(InputError, match="double is False, and was fixed to True"):
        module(x, None, double=False)


def test_defaults_of_a_forward_are_fixed_in_its_order():
    call = [["double", {"value": True}], ["x", {"tensor": 0}]]
    assert with_defaults(call, Scaled().forward) == [
        ["x", {"tensor": 0}],
        ["scale", {"value": None}],
        ["double", {"value": True}],
    ]
    assert with_defaults(call, lambda *x: x) == call
    assert with_defaults(None, Scaled().forward) is None


@pytest.mark.slow
def test_outputs_of_transformers_are_dicts_where_torch_is_not_installed(tmp_path):
    from transformers.modeling_outputs import BaseModelOutput

    class Encoder(nn.Module):
        def forward(self, x, mask=None):
            return BaseModelOutput(last_hidden_state=x + 1, hidden_states=(x, x * 2))

    tb.compile(Encoder(), (torch.ones(2, 3),), threads=1).save(tmp_path / "m.tb")
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import numpy as np, tvm_balanced as tb\n"
        "got = tb.load(sys.argv[1])(np.ones((2, 3), np.float32), mask=None)\n"
        "assert type(got) is dict and list(got) == ['last_hidden_state', 'hidden_states'], got\n"
        "print(got['last_hidden_state'].max(), got['hidden_states'][1].max())"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "m.tb"], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2.0 2.0", done.stderr


class Features(nn.Module):
    """Adds its results to the dict that it is given, as every module of sentence-transformers does."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 32)

    def forward(self, features):
        features["hidden"] = self.layer(features["x"])
        features["sum"] = features["hidden"].sum(-1)
        return features


def test_a_dict_that_the_model_changes_may_be_given_again(monkeypatch):
    monkeypatch.setattr(race_module, "SECONDS", 0.05)
    monkeypatch.setenv(race_module.VARIABLE, "1")
    model, given = Features().eval(), {"x": torch.randn(4, 64)}
    module = tb.compile(model, (given,), threads=1)
    assert module.report.races[0].rounds >= 1
    assert list(given) == ["x"]  # compiling has not changed it
    with torch.no_grad():
        want = model(given)
    assert list(given) == ["x", "hidden", "sum"]
    for features in (given, {"x": given["x"]}):
        got = module(features)
        assert list(got) == list(want)
        torch.testing.assert_close(got["sum"], want["sum"], rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="a dict with x, other was given where the model takes"):
        module({"x": given["x"], "other": given["x"]})


class Ordered(nn.Module):
    def forward(self, x):
        return OrderedDict(out=x + 1, aux=[x])


def test_an_ordered_dict_comes_back_as_one():
    """As segmentation models of torchvision return it."""
    compiled, x = tb.compile(Ordered(), (torch.ones(2),), threads=1), torch.zeros(2)
    got = compiled(x)
    assert type(got) is OrderedDict
    assert list(got) == ["out", "aux"]
    assert torch.equal(got["out"], x + 1)
    assert type(compiled(x.numpy())) is dict
