"""What tests do that follow the advice of refusals: refused with a sentence, and taken as the sentence says."""

import os

import pytest

from tvm_balanced.compiler.compile import CompileOptions, compile_imported
from tvm_balanced.errors import InputError, ModelError
from tvm_balanced.frontend.sources import Request, import_source

NIGHTLY = "TVM_BALANCED_NIGHTLY" in os.environ


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
