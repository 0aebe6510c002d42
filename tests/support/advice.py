"""What tests do that follow the advice of refusals: refused with a sentence, and taken as the sentence says."""

import os

import pytest
from torch import nn

from tvm_balanced.compiler.compile import CompileOptions, compile_imported
from tvm_balanced.errors import InputError, ModelError
from tvm_balanced.frontend.sources import Request, import_source

NIGHTLY = "TVM_BALANCED_NIGHTLY" in os.environ


class Forward(nn.Module):
    """A square layer of so many columns, and what a function makes of its result."""

    def __init__(self, function, columns=8):
        super().__init__()
        self.layer, self.function = nn.Linear(columns, columns), function

    def forward(self, x, *rest):
        return self.function(self.layer(x), *rest)


def goes_in(model, *args, **request):
    """Import a model; to compile it takes longer and is done at night."""
    imported = import_source(model, Request(args=args, **request))
    if NIGHTLY:
        compile_imported(imported, CompileOptions(threads=1, logs=False))


def follow(refused, said, advised):
    """Refused with one sentence that has `said` in it, and taken with the advice."""
    with pytest.raises((InputError, ModelError)) as error:
        refused()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    advised()
