"""`tvm-balanced demo`: the whole workflow once, on a real model."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tvm_balanced.cli.bench import HEADER
from tvm_balanced.cli.console import out, print_json, print_table, step
from tvm_balanced.cli.model import Json, Threads
from tvm_balanced.core.pattern import BalancedPattern


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder for the artifact and report.html; new or empty.")] = Path("demo"),
    pattern: Annotated[str, typer.Option(help="Prune the encoder's 36 linear layers to this pattern, NNZ:BLOCK.")] = "4:16",
    minutes: Annotated[float, typer.Option(min=0, help="Minutes of distillation after pruning.")] = 1.5,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Prune, distill, compile, check and time a real sentence encoder, and write a page about it."""
    parsed = BalancedPattern.parse(pattern)
    with step("starting"):
        from tvm_balanced.bench.result import to_json
        from tvm_balanced.demo.demo import run
        from tvm_balanced.runtime.host import cores

    result = run(folder, parsed, threads or cores(), step, minutes)
    agreement = result.agreement
    if json:
        print_json(
            {
                "pattern": str(parsed),
                "threads": result.threads,
                "results": to_json(result.timing),
                "quality": [asdict(quality) for quality in result.quality],
                "sentences": agreement.sentences,
                "max_error": agreement.max_error,
                "min_cosine": agreement.min_cosine,
                "pruning_cosine": float(agreement.pruning_cosine.mean()),
                "same_neighbour": agreement.same_neighbour,
                "artifact": str(result.artifact),
                "page": str(result.page),
            }
        )
        return
    print_table(
        f"MiniLM at {parsed}, one sentence of 128 tokens, {result.threads} threads",
        HEADER,
        [row.cells() for row in result.timing],
    )
    print_table(
        f"finding {result.quality[0].among} docstrings by their first lines",
        ("model", "first hit", "MRR", "cosine to dense"),
        [(q.name, f"{q.first_hits:.1%}", f"{q.mrr:.3f}", f"{q.cosine:.2f}") for q in result.quality],
    )
    for line in (
        f"{agreement.sentences} sentences agree with pruned PyTorch: largest difference {agreement.max_error:.1e}, "
        f"smallest cosine {agreement.min_cosine:.7f}",
        f"what pruning cost on other texts than these: cosine to the dense embeddings {agreement.pruning_cosine.mean():.3f}, "
        f"{agreement.same_neighbour:.0%} keep their nearest neighbour",
        f"wrote {result.artifact} and {result.page}",
    ):
        out.print(line, highlight=False, soft_wrap=True)
