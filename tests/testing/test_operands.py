from dataclasses import replace

import numpy as np
import pytest
from support import reference

from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, SparseKernel, Workload
from tvm_balanced.schedules.layouts.byte_permute_tables import WORDS
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.testing import operands
from tvm_balanced.testing.operands import DRAWN_ROWS, draw, draw_weight, packed_shapes, repeat_rows
from tvm_balanced.tuning.runners.local import LocalRunner

HERE = [name for name, k in KERNELS.items() if k.refuses(host_target(), 64, 64, "float32") is None]


def workload(name, n, **changes):
    pattern = (2, 16) if isinstance(KERNELS[name], SparseKernel) else (1, 1)
    return Workload(name, 5, n, 72, *pattern, KERNELS[name].dtypes[0], **changes)


def test_drawn_weights_are_valid():
    for nnz, k in ((1, 16), (2, 72), (4, 65), (8, 47), (16, 100)):
        weight = draw_weight(Workload("cpu_avx512", 1, 8, k, nnz, 16), np.random.default_rng(0))
        weight.validate()


def test_the_reference_is_the_tests_own():
    given = Workload("cpu_dense", 3, 16, 32, 1, 1, activation="silu")
    found = draw(given)
    x = found.given[0]
    weight = draw_weight(given, rng := np.random.default_rng(0)).decode()
    bias = rng.standard_normal(16).astype(np.float32)
    np.testing.assert_allclose(found.reference(), reference.dense(x, weight, bias, "silu"), rtol=1e-6)


@pytest.mark.grid
@pytest.mark.parametrize("name", HERE)
def test_repeated_rows_are_a_weight_of_that_many_rows(name, monkeypatch):
    """A kernel of 200 rows on 64 that were drawn gives what the reference says; so does one of as many rows as are drawn."""
    monkeypatch.setattr(operands, "DRAWN_ROWS", 64)
    runner = LocalRunner(host_target(), 1)
    for n in (64, 200):
        given = replace(workload(name, n), dtype="float32")
        found = runner.confirm(given, [space_of(given, host_target()).default], 0.05)
        assert found.max_error < max(1e-5, KERNELS[name].tolerance or 0)


@pytest.mark.parametrize("name", KERNELS)
def test_every_layout_repeats_rows(name):
    """But for a table that all rows share."""
    rows = (3 * DRAWN_ROWS, DRAWN_ROWS)
    many, few = (draw(workload(name, n)) for n in rows)
    shapes = [packed_shapes(workload(name, n)) for n in rows]
    shared = [few.given[1 + part] for part, shape in enumerate(shapes[1]) if shape == shapes[0][part]]
    assert [table.shape[1] for table in shared] == ([WORDS] if name.startswith("cuda_decode_") else [])
    assert many.packed == 3 * few.packed - 2 * sum(table.nbytes for table in shared)


def test_a_layout_that_mixes_rows_is_refused():
    with pytest.raises(ValueError, match="mixes rows"):
        repeat_rows(np.zeros((4, 3)), (8, 6))
