"""What does tuning gain on layers that nobody tuned before? `python -m benchmarks.tuned [--trials N] [--layers N]`.

Layers are drawn at random, and each is a pruned model that `tb.tune` tunes as a user would. The gain is that of the race after
the search: the winner and the default take turns, half of the rounds choose it and the other half say what it gains; 1 where the
default stays. Rows are appended to data/tuned.csv; the geometric mean has the 95% interval of a bootstrap over the layers.
"""

import argparse
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import tvm_balanced as tb
from benchmarks.cell import append, stamp

DATA = Path(__file__).parent / "data" / "tuned.csv"
SIZES = (256, 8192)  # of N and K, powers of two left out
MOST_ROWS = 512
LARGEST = 12 << 20  # weights of a layer; a larger one takes seconds a trial
PATTERNS = ("8:16", "4:16", "2:16", "1:16", "4:32")
DTYPES = ("float32", "float32", "bfloat16")
COLUMNS = (
    *("date", "cpu", "versions", "seed", "trials", "n", "k", "m", "pattern", "dtype", "threads"),
    *("kernel", "space", "default_us", "p20", "p50", "p80", "won"),
)


@dataclass(frozen=True)
class Layer:
    """A dense layer, its pattern, the rows of x and the threads of a call."""

    n: int
    k: int
    m: int
    pattern: str
    dtype: str
    threads: int


def layers(count: int, seed: int) -> list[Layer]:
    """Draw layers; N and K are even in their logarithm, M too, and every other layer has two threads."""
    draw, found = random.Random(seed), list[Layer]()
    while len(found) < count:
        n, k = (round(2 ** draw.uniform(*np.log2(SIZES))) for _ in range(2))
        m = round(2 ** draw.uniform(0, np.log2(MOST_ROWS)))
        if n * k <= LARGEST and not any((size & (size - 1)) == 0 for size in (n, k)):
            found.append(Layer(n, k, m, draw.choice(PATTERNS), draw.choice(DTYPES), 1 + len(found) % 2))
    return found


def tune(layer: Layer, trials: int) -> dict[str, object]:
    """Tune a layer; return its row."""
    torch.manual_seed(0)
    dtype = getattr(torch, layer.dtype)
    model = nn.Sequential(nn.Linear(layer.k, layer.n)).eval()
    tb.prune(model, layer.pattern)
    with tempfile.TemporaryDirectory() as folder:
        x = torch.randn(layer.m, layer.k, dtype=dtype)
        result = tb.tune(model.to(dtype), (x,), threads=layer.threads, work_dir=folder, trials=trials)
    (state,) = result.states
    (tuned,) = result.kernels
    winner = state.winner
    gain = (1.0,) * 3 if winner is None or not winner.won else (winner.gain.p20, winner.gain.p50, winner.gain.p80)
    return {
        **vars(layer),
        "trials": tuned.trials,
        "kernel": tuned.kernel.split()[0],
        "space": tuned.space,
        "default_us": f"{tuned.default_us or 0:.1f}",
        "won": int(tuned.won),
        **{name: f"{value:.3f}" for name, value in zip(("p20", "p50", "p80"), gain, strict=True)},
    }


def mean_and_interval(gains: Sequence[float], draws: int = 2000) -> tuple[float, float, float]:
    """Return the geometric mean and the 95% interval of a bootstrap over the layers."""
    logs = np.log(gains)
    means = np.random.default_rng(0).choice(logs, (draws, len(logs))).mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high))


def main() -> None:
    """Draw, tune, print and append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64, help="for each layer")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0, help="of the layers")
    options = parser.parse_args()
    table, gains = Table("N x K, M", "pattern", "dtype", "threads", "kernel", "points", "default us", "gain"), list[float]()
    for layer in layers(options.layers, options.seed):
        row = tune(layer, options.trials)
        append(DATA, COLUMNS, [{**stamp(), "seed": options.seed, **row}])
        gains.append(float(str(row["p50"])))
        spread = f"{row['p50']} ({row['p20']} to {row['p80']})" if row["won"] else "the default stays"
        cells = [f"{layer.n}x{layer.k}, {layer.m}", layer.pattern, layer.dtype, str(layer.threads)]
        cells += [str(row[name]) for name in ("kernel", "space", "default_us")]
        print(*cells, spread, sep="; ", flush=True)
        table.add_row(*cells, spread)
    Console(width=150).print(table)
    mean, low, high = mean_and_interval(gains)
    print(f"geometric mean {mean:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
