"""Arguments of a wrong type get one sentence: what was given, what was expected."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import InputError

X = torch.ones(2, 16)
KEYWORDS = {
    "kernels as text": ({"kernels": "cpu_dense"}, r"kernels is 'cpu_dense' \(str\); give a mapping"),
    "kernels of numbers": ({"kernels": {"*": 3}}, r"kernels is 3 \(int\)"),
    "threads as text": ({"threads": "2"}, r"threads is '2' \(str\); give a whole number"),
    "half a thread": ({"threads": 1.5}, r"threads is 1\.5 \(float\)"),
    "threads as bool": ({"threads": True}, r"threads is True \(bool\)"),
    "no threads": ({"threads": 0}, "threads is 0; give 1 or more"),
    "no copies": ({"copies": 0}, "copies is 0; give 1 or more"),
    "copies as text": ({"copies": "2"}, r"copies is '2' \(str\); give a whole number"),
    "kwargs as list": ({"kwargs": [X]}, "kwargs is list; give a mapping"),
    "dynamic shapes as text": ({"dynamic_shapes": "batch"}, r"dynamic_shapes is 'batch' \(str\); give what torch"),
    "args missing": ({"args": None}, r"args is None \(NoneType\); give a tuple of example tensors"),
    "args as text": ({"args": "x"}, "args is 'x'"),
    "args as an array": ({"args": X.numpy()}, "is a NumPy array"),
    "args of arrays": ({"args": (X.numpy(),)}, "is a NumPy array; give torch tensors"),
    "model missing": ({"model": None}, "model is NoneType; give a torch.nn.Module"),
}


@pytest.mark.parametrize("function", [tb.compile, tb.inspect])
@pytest.mark.parametrize("case", KEYWORDS)
def test_compile_and_inspect(function, case):
    keywords, message = KEYWORDS[case]
    refused(message, lambda: function(**({"model": nn.Linear(16, 4), "args": (X,)} | keywords)))


CALLS = {
    "tolerance as text": (lambda: tb.compile(nn.ReLU(), (X,), tolerance="x"), "tolerance is 'x'"),
    "negative tolerance": (lambda: tb.compile(nn.ReLU(), (X,), tolerance=-1), "tolerance is -1; give 0 or more"),
    "tolerance that is no number": (lambda: tb.compile(nn.ReLU(), (X,), tolerance=float("nan")), "tolerance is nan"),
    "copies while tuning": (lambda: tb.tune(nn.Linear(16, 4), (X,), copies=0), "copies is 0; give 1 or more"),
    "path of an artifact": (lambda: tb.load(3), r"path is 3 \(int\)"),
    "threads of an artifact": (lambda: tb.load("none", threads="2"), "threads is '2'"),
    "pruning nothing": (lambda: tb.prune(None, "2:4"), "model is None"),
    "include": (lambda: tb.prune(nn.Linear(16, 4), "2:4", include=3), r"include is 3 \(int\)"),
    "entries of include": (lambda: tb.prune(nn.Linear(16, 4), "2:4", include=[3]), r"an entry of include is 3 \(int\)"),
    "exclude": (lambda: tb.prune(nn.Linear(16, 4), "2:4", exclude=None), "exclude is None"),
    "pattern": (lambda: tb.prune(nn.Linear(16, 4), 3), 'pattern "3" is not of the form'),
}


@pytest.mark.parametrize("case", CALLS)
def test_the_other_functions(case):
    call, message = CALLS[case]
    refused(message, call)


def test_methods_of_a_module(compiled_mlp):
    refused("path is 3", lambda: compiled_mlp.save(3))
    refused("rounds is 'x'", lambda: compiled_mlp.profile(torch.ones(5, 64), rounds="x"))
    refused("threads is 'x'", lambda: setattr(compiled_mlp, "threads", "x"))


def refused(message, call):
    with pytest.raises(tb.TvmBalancedError, match=message) as error:
        call()
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


def test_what_is_as_good_as_the_type_is_taken():
    module = tb.compile(nn.ReLU(), [X], threads=np.int64(1), tolerance=np.float32(1), kernels={})
    assert module.threads == 1
    with pytest.raises(tb.TvmBalancedError, match="no readable manifest"):
        tb.load(Path("none"))
    assert issubclass(InputError, TypeError)
