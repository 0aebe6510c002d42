"""Where does the time of a model in 8 bits go, beside the bound? `python -m benchmarks.int8_profile [--model minilm]`.

The functions of a call, those of one kind together: layers of one shape, attention, rounding, norms. The bound of a sparse layer
is the longer of reading its weight and of its byte permutes and dot products (`int8_bound.py`), that of attention its
multiply-adds at the peak of this machine, which is twice as high in bfloat16. What has no bound here waits for caches. Compiled
models are those of `benchmarks.int8`, kept in build/int8.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.int8 import CALIBRATION, LABELS, PATTERNS, Setting, compiled
from benchmarks.int8_bound import int8_bound
from benchmarks.subjects import SUBJECTS
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.report import LayerReport
from tvm_balanced.timing.profile import Profile, ProfileRow
from tvm_balanced.transform.count_operators import PRODUCTS

KINDS = {
    "attention_bf16": "attention in bfloat16",
    "attention": "attention in float32",
    "round_rows": "rounding for several layers",
}
NORMS, OTHERS, REPEATED = "norms", "everything else", 5
SPARSE = "cpu_avx512_i8"


@dataclass(frozen=True)
class Part:
    """What functions of one kind take in a call, and the least that they could, in microseconds; no bound is NaN."""

    name: str
    calls: int
    microseconds: float
    bound: float


def kind_of(row: ProfileRow, layers: Mapping[str, LayerReport]) -> str:
    """Return the kind of a row of a profile."""
    layer = layers.get(row.name)
    if row.kernel != "tvm" and layer is not None:
        return f"{layer.n}x{layer.k} by {row.kernel}"
    known = next((kind for name, kind in KINDS.items() if row.name.startswith(name)), None)
    return known or (NORMS if "norm" in row.name else OTHERS)


def parts_of(profile: Profile, module: Any, bounds: Mapping[str, float]) -> list[Part]:
    """Return the parts of a profiled call, those that take longest first; `bounds` are of one call of a kind."""
    layers = {layer.layer: layer for layer in module.report.layers}
    rows: dict[str, list[ProfileRow]] = defaultdict(list)
    for row in profile.rows:
        rows[kind_of(row, layers)].append(row)
    made = []
    for kind, same in rows.items():
        calls = sum(row.calls for row in same)
        made.append(Part(kind, calls, sum(row.microseconds for row in same), calls * bounds.get(kind, float("nan"))))
    return sorted(made, key=lambda part: -part.microseconds)


def bounds_of(profile: Profile, module: Any) -> dict[str, float]:
    """Return the bound of one call of each kind that has one, in microseconds."""
    layers, bounds = {layer.layer: layer for layer in module.report.layers}, dict[str, float]()
    for row in profile.rows:
        layer, kind = layers.get(row.name), kind_of(row, layers)
        if layer is not None and row.kernel == SPARSE and layer.m is not None and kind not in bounds:
            call = int8_bound(layer.n, layer.k, layer.m, BalancedPattern.parse(layer.stored), module.threads)
            bounds[kind] = 1e6 * min(float(call(at)) for at in range(REPEATED))
    macs = sum(row.macs for row in module.report.operators if row.kind == PRODUCTS)
    for name, rate in (("attention_bf16", 2.0), ("attention", 1.0)):
        calls = sum(row.calls for row in profile.rows if kind_of(row, layers) == KINDS[name])
        if calls:
            bounds[KINDS[name]] = macs / calls / (rate * profile.rates.gmacs) / 1e3
    return bounds


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SUBJECTS, default="minilm")
    parser.add_argument("--pattern", choices=PATTERNS, default="2:16")
    parser.add_argument("--label", choices=LABELS, default="int8 throughout")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=100, help="calls, of which the medians count")
    options = parser.parse_args()
    module = compiled(options.model, options.pattern, options.label, Setting(options.batch, options.threads, CALIBRATION))
    with torch.inference_mode():
        profile = module.profile(*SUBJECTS[options.model].inputs(0, options.batch), rounds=options.rounds)
    print(f"{options.model} at {options.pattern}, {options.label}, batch {options.batch}: {profile.title}")
    table = Table("part", "calls", "us", "share", "bound, us", "of the bound")
    for part in parts_of(profile, module, bounds_of(profile, module)):
        known = part.bound == part.bound
        bound = (f"{part.bound:.0f}", f"{part.bound / part.microseconds:.0%}") if known else ("-", "-")
        share = f"{part.microseconds / profile.microseconds:.1%}"
        table.add_row(part.name, str(part.calls), f"{part.microseconds:.0f}", share, *bound)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
