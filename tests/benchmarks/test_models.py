import pytest
import torch

import tvm_balanced as tb
from benchmarks import models
from benchmarks.models import Cell, LSTMStep


def test_a_step_is_that_of_torch():
    torch.manual_seed(0)
    step = LSTMStep(48, 2).eval()
    x, h, c = torch.randn(3, 48), torch.randn(2, 3, 48), torch.randn(2, 3, 48)
    with torch.no_grad():
        torch.testing.assert_close(step(x, h, c), step.as_lstm()(x[None], (h, c))[1])


def test_a_pruned_step_compiles_to_sparse_layers_and_its_rival_agrees():
    model, args, rivals = models.lstm(1, "2:16", hidden=64)
    module = tb.compile(model, args)
    assert [layer.verdict for layer in module.report.layers] == ["sparse"] * 4
    with torch.no_grad():
        for form in (module, *rivals.values()):
            torch.testing.assert_close(tuple(form(*args)), model(*args), rtol=1e-4, atol=1e-5)


def test_rows_and_places():
    speedup = {"p50": 2.0, "p20": 1.5, "p80": 2.5}
    result = {"max_error": 1e-7, "others": 0.03, "results": [{"name": "eager", "microseconds": 12.34, "speedup": speedup}]}
    cell = Cell("lstm", 1, "2:16", 2)
    (row,) = models.rows_of(cell, result)
    assert set(row) == set(models.COLUMNS)
    assert (row["us"], row["p50"], row["threads"], row["max_error"]) == ("12.3", "2.000", 2, "1.0e-07")

    (row,) = models.rows_of(Cell("lstm", 1, "2:16", 2, "cpu/x86-64-v3"), result)
    assert (set(row), row["regime"]) == (set(models.COLUMNS), "model, cpu/x86-64-v3")

    layer = {"kernel": "cpu_avx512", "calls": 1, "share": 0.4, "macs": 4_000_000, "nbytes": 0}
    rows = [layer | {"name": "a", "microseconds": 40.0}, layer | {"name": "b", "microseconds": 60.0}]
    (line,) = models.where(cell, {"rows": rows, "rates": {"gmacs": 160.0}})
    assert line[4:] == ("cpu", "cpu_avx512", "2", "100", "80.0%", "80.0", "50%", "b (60 us)")


def test_amdahls_bound_is_what_is_outside_of_layers_and_our_kernels():
    results = [{"name": "balanced", "microseconds": 50.0}, {"name": "eager", "microseconds": 200.0}]
    kernels = {"rows": [{"macs": 10, "microseconds": 15.0}, {"macs": 0, "microseconds": 99.0}]}
    row = models.amdahl(results, kernels, 0.1)
    assert (row["microseconds"], row["speedup"]["p50"]) == (35.0, 0.7)


def test_attention_and_activations_are_outside_of_layers():
    encoder = torch.nn.TransformerEncoderLayer(64, 4, 64, batch_first=True).eval().requires_grad_(False)
    layers = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.Linear(512, 512)).eval()
    assert 0.05 < models.outside_layers(encoder, (torch.randn(1, 128, 64),)) < 1
    x = (torch.randn(256, 512),)
    assert min(models.outside_layers(layers, x) for _ in range(5)) < 0.2  # another process may stop any one of them


@pytest.mark.parametrize("model", models.MODELS)
def test_every_model_has_its_batches(model):
    assert models.BATCHES[model]
