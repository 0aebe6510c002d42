"""What is supported: layers and ways in beside torch. Writes data/support.csv and docs/support.md.

    python -m benchmarks.support layers float32 static     # runs a part, and writes the page anew
    python -m benchmarks.support sources "BERT" dynamic
    python -m benchmarks.support                           # the page alone, with the rows of python -m benchmarks.torch_compile

A cell is "yes", for layers "sparse" or "dense", or the reason why not; "not run" until it was. tests/benchmarks/test_support.py
checks that the page is current, and runs a sample of the cells; `make nightly` runs them all.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import torch_compile

ROOT = Path(__file__).resolve().parent.parent
DATA, PAGE = ROOT / "benchmarks" / "data" / "support.csv", ROOT / "docs" / "support.md"
COLUMNS = ("section", "row", "column", "shapes", "outcome")
SHAPES = ("static", "dynamic")
GOOD = ("yes", "sparse", "dense")
DTYPES = ("float32", "float16", "bfloat16")
Cell = tuple[str, str, str, str]
COMPILED = (
    "Small models, pruned at 4:16 and called as their users call them, by `python -m benchmarks.torch_compile`: how many graphs "
    "torch made of each, for how many breaks, and what became of them. A graph without a layer is not worth compiling."
)
REFUSED = """\
A sentence says what to do, and a test follows each (`tests/frontend/test_*_advice.py`, for GPT-Neo `test_causal_lm.py`).

| a model | the way that works |
|---|---|
| whose forward branches on values, as an early exit | both sides and `torch.where`, or `torch.cond` |
| that changes a buffer of its own | return it |
| that packs sequences by their lengths | padded sequences, and the last step by its place |
| of transformers with a loop over experts, `experts_implementation="eager"` | `"batched_mm"` |
| with dynamic int8 of torchao or `torch.ao.quantization` | its float weights, with `kernels={"*": "cpu_avx512_i8"}` |
| of TorchScript | the `nn.Module` that it was made from |
| of a length that torch.export ties to a multiple, as a Wav2Vec2 with a `Dim` of a range | `torch.export.Dim.AUTO` for it |
| a language model whose attention counts its keys, as GPT-Neo, with a cache | example inputs, without a cache |
"""
NAMED = """\
156 cases by name, 30 November 2026, one Zen 4 thread: encoders, encoder-decoders and language models of transformers
with and without caches, vision and audio, torchvision and timm, recurrent and attention layers, mixtures of experts,
sizes that change, half precision, and models that other tools pruned or quantised. Each is pruned at 4:16, compiled as
its users call it, compared with PyTorch on two inputs or more, saved and loaded. **147 are right and 8 are refused**
with a sentence below: an early exit, a buffer that changes, a packed LSTM, Mixtral with a loop over experts, dynamic
int8 of torchao and of `torch.ao`, TorchScript, and a Wav2Vec2 of any length whose `Dim` has a range. `semi_sparse_weight`
of torchao cannot be made without CUDA. No command is recorded: the cases are not in this repository.
"""
LAYERS = (
    "A layer of each kind beside PyTorch, in each dtype: with fixed shapes, and with one size left open, its batch or steps."
    "\n\n**sparse**: its weight was pruned at 4:16, and a sparse kernel computes it. **dense**: it has no "
    "zeros, is too small, or has no sparse kernel. **yes**: it has no weight that is pruned. Numbers are reasons, below."
)
SOURCES = (
    "A small pruned model of each family, by each way in, its results beside PyTorch's: with one batch size, and with several "
    "where it was left open. **yes** stands for both."
)


def cells() -> list[Cell]:
    """Return every cell of both matrices: (section, row, column, shapes)."""
    _find_support()
    from support.layer_kinds import KINDS
    from support.model_families import FAMILIES, SOURCES

    layers = [("layers", kind, dtype, shapes) for kind in KINDS for dtype in DTYPES for shapes in SHAPES]
    return layers + [("sources", source, family, shapes) for source in SOURCES for family in FAMILIES for shapes in SHAPES]


def only_transformers() -> set[str]:
    """Return the ways in that take models of transformers alone."""
    _find_support()
    from support.model_families import ONLY_TRANSFORMERS

    return ONLY_TRANSFORMERS


def _find_support() -> None:
    if str(ROOT / "tests") not in sys.path:
        sys.path.insert(0, str(ROOT / "tests"))


def run(section: str, column: str, shapes: str) -> Iterator[tuple[Cell, str]]:
    """Yield what comes of each row of a column: a dtype for layers, a family for sources."""
    _find_support()
    import torch
    from support import layer_kinds, model_families

    dynamic = shapes == "dynamic"
    if section == "layers":
        for kind, found in layer_kinds.outcomes(list(layer_kinds.KINDS), getattr(torch, column), dynamic):
            yield (section, kind, column, shapes), found
        return
    for source in model_families.SOURCES:
        with tempfile.TemporaryDirectory() as folder:
            yield (section, source, column, shapes), model_families.outcome(source, column, dynamic, Path(folder))


def read() -> dict[Cell, str]:
    """Return what came of each cell that was run."""
    if not DATA.is_file():
        return {}
    with DATA.open(newline="") as file:
        return {(row["section"], row["row"], row["column"], row["shapes"]): row["outcome"] for row in csv.DictReader(file)}


def write(found: dict[Cell, str]) -> None:
    """Write outcomes in the order of `cells`."""
    with DATA.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((*cell, found[cell]) for cell in cells() if cell in found)


def page(found: dict[Cell, str]) -> str:
    """Return the page."""
    lines = ["# What is supported", "", "Written by `python -m benchmarks.support`.", ""]
    for section, title, introduction in (
        ("sources", "Sources", SOURCES),
        ("layers", "Layers", LAYERS),
    ):
        lines += [f"## {title}", "", introduction, "", *_table(section, found), ""]
        if section == "sources":
            lines += ["### Models by name", "", NAMED, "### What is refused", "", REFUSED]
            lines += ["### Under torch.compile", "", COMPILED, "", *torch_compile.lines(), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(section: str, found: dict[Cell, str]) -> Iterator[str]:
    """Yield a table of a section, and the reasons that its cells refer to."""
    here = [cell for cell in cells() if cell[0] == section]
    rows, columns = (list(dict.fromkeys(cell[place] for cell in here)) for place in (1, 2))
    reasons: dict[str, int] = {}
    yield f"| | {' | '.join(columns)} |"
    yield "|---" * (1 + len(columns)) + "|"
    for row in rows:
        words = [[_word(found.get((section, row, column, shapes)), reasons) for shapes in SHAPES] for column in columns]
        yield f"| {row} | {' | '.join(both[0] if both[0] == both[1] else ', '.join(both) for both in words)} |"
    if reasons:
        yield ""
        yield from (f"{number}. {reason}" for reason, number in reasons.items())


def _word(outcome: str | None, reasons: dict[str, int]) -> str:
    if outcome is None:
        return "not run"
    if outcome in GOOD:
        return outcome
    return f"({reasons.setdefault(outcome, len(reasons) + 1)})"


def main() -> None:
    """Run a part, or none, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="?", choices=("layers", "sources"))
    parser.add_argument("column", nargs="?")
    parser.add_argument("shapes", nargs="?", choices=SHAPES)
    options = parser.parse_args()
    if options.section:
        for cell, outcome in run(options.section, options.column, options.shapes):
            print(*cell, outcome, sep=" | ", flush=True)
            write(read() | {cell: outcome})
    PAGE.write_text(page(read()))


if __name__ == "__main__":
    main()
