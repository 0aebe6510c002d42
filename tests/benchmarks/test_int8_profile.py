import math
from types import SimpleNamespace

from benchmarks.int8_profile import KINDS, Part, bounds_of, kind_of, parts_of
from tvm_balanced.core.report import LayerReport, OperatorReport
from tvm_balanced.timing.profile import Profile, ProfileRow
from tvm_balanced.timing.rates import Rates
from tvm_balanced.transform.count_operators import PRODUCTS


def row(name, kernel, calls, us):
    return ProfileRow(name, kernel, calls, us, 0.0, 0, 0)


def layer(name, n, k):
    return LayerReport(name, n, k, 8, 1, 0.5, "8:16", "-", 0.0, "cpu_dense_i8", "dense", "", "rule", None)


def test_functions_of_one_kind_are_one_part():
    rows = (
        row("a", "cpu_dense_i8", 1, 10.0),
        row("b", "cpu_dense_i8", 1, 12.0),
        row("attention_bf16", "tvm", 2, 50.0),
        row("attention_bf161", "tvm", 1, 30.0),
        row("fused_layer_norm_multiply", "tvm", 1, 3.0),
        row("take", "tvm", 1, 1.0),
    )
    profile = Profile(rows, Rates(100.0, 10.0), 1)
    products = OperatorReport("products", PRODUCTS, (), 1, 0.0, 0, 1_500_000, "dense", "")
    module = SimpleNamespace(
        threads=1, report=SimpleNamespace(layers=[layer("a", 16, 32), layer("b", 16, 32)], operators=[products])
    )
    bounds = bounds_of(profile, module)
    assert bounds == {KINDS["attention_bf16"]: 1_500_000 / 3 / 200e9 * 1e6}
    parts = parts_of(profile, module, bounds)
    assert parts[0] == Part(KINDS["attention_bf16"], 3, 80.0, 7.5)
    assert [(part.name, part.calls, part.microseconds) for part in parts[1:]] == [
        ("16x32 by cpu_dense_i8", 2, 22.0),
        ("norms", 1, 3.0),
        ("everything else", 1, 1.0),
    ]
    assert all(math.isnan(part.bound) for part in parts[1:])


def test_attention_in_float32_is_not_taken_for_the_other():
    assert kind_of(row("attention", "tvm", 1, 1.0), {}) == KINDS["attention"]
    assert kind_of(row("round_rows1", "tvm", 1, 1.0), {}) == KINDS["round_rows"]
