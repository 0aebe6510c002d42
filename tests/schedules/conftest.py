"""A test that changes what kernels are made of finds no function that a model was given before, and leaves none."""

import pytest

from tvm_balanced.schedules.base import kernel


@pytest.fixture(autouse=True)
def functions_are_built_anew_where_something_is_changed(request):
    changes = "monkeypatch" in request.fixturenames
    if changes:
        kernel.kept.cache_clear()
    yield
    if changes:
        kernel.kept.cache_clear()
