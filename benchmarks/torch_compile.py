"""Forty models under torch.compile with our backend. Writes data/torch_compile.csv, which docs/support.md shows.

    python -m benchmarks.torch_compile               # those that have no row yet
    python -m benchmarks.torch_compile --again BERT Llama
    python -m benchmarks.support                     # the page
    python -m benchmarks.torch_compile --beside-compile   # times; --minutes 4.5, and again for those that did not fit

Each is called as its users call it, pruned at 4:16, beside eager PyTorch: are results equal, where does torch break it into
graphs, which graphs does the backend leave to PyTorch, and why? Times are measured with `--beside-compile` alone: of those that
benchmarks.zoo has in a real size, a call through torch.compile in turns with one of the module of `tb.compile`, on one thread.
These rows go to data/torch_compile_times.csv.
"""

import argparse
import csv
import logging
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from benchmarks.cell import append, stamp
from benchmarks.interference import other_load
from tvm_balanced.timing.paired import Seconds, Timing, measure_paired

DATA = Path(__file__).parent / "data" / "torch_compile.csv"
TIMES = DATA.with_name("torch_compile_times.csv")
COLUMNS = ("model", "difference", "graphs", "breaks", "compiled", "without_a_layer", "fell_back", "reason")
TIMES_COLUMNS = ("date", "cpu", "versions", "model", "rounds", "us", "compile_us", "p20", "p50", "p80", "others", "unguarded")
LIMIT = 2e-4  # of the largest value of an output
SLOWEST = 1.1  # times what the module of tb.compile takes
SIZES = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128, "vocab_size": 100}
DECODER = {**SIZES, "num_key_value_heads": 1, "pad_token_id": 0}
IMAGE = {**SIZES, "image_size": 32, "patch_size": 16}
T5 = {"d_model": 64, "d_ff": 128, "d_kv": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 100, "decoder_start_token_id": 0}
SPEECH = {"conv_dim": [32] * 2, "conv_stride": [5, 4], "conv_kernel": [10, 8], "num_feat_extract_layers": 2}
OF_TRANSFORMERS: dict[str, tuple[str, Mapping[str, Any]]] = {  # the class, and the fields of its config
    "BERT": ("BertModel", SIZES),
    "BERT, eager attention": ("BertModel", {**SIZES, "attn_implementation": "eager"}),
    "BERT, classifier": ("BertForSequenceClassification", SIZES),
    "BERT, masked words": ("BertForMaskedLM", SIZES),
    "RoBERTa": ("RobertaModel", SIZES),
    "ALBERT": ("AlbertModel", {**SIZES, "embedding_size": 32}),
    "MPNet": ("MPNetModel", SIZES),
    "ModernBERT": ("ModernBertModel", {**SIZES, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}),
    "DistilBERT": ("DistilBertModel", {"dim": 64, "n_layers": 1, "n_heads": 2, "hidden_dim": 128, "vocab_size": 100}),
    "ELECTRA": ("ElectraModel", {**SIZES, "embedding_size": 32}),
    "DeBERTa": ("DebertaV2Model", SIZES),
    "T5, encoder": ("T5EncoderModel", T5),
    "T5": ("T5ForConditionalGeneration", {**T5, "num_decoder_layers": 1}),
    "Flan-T5": ("T5EncoderModel", {**T5, "feed_forward_proj": "gated-gelu"}),
    "GPT-2": ("GPT2LMHeadModel", {"n_embd": 64, "n_layer": 1, "n_head": 2, "vocab_size": 100, "n_positions": 64}),
    "Llama": ("LlamaForCausalLM", DECODER),
    "Llama, classifier": ("LlamaForSequenceClassification", DECODER),
    "Qwen2": ("Qwen2ForCausalLM", DECODER),
    "Qwen3": ("Qwen3ForCausalLM", {**DECODER, "head_dim": 32}),
    "Mistral": ("MistralForCausalLM", {**DECODER, "sliding_window": 8}),
    "Phi-3": ("Phi3ForCausalLM", DECODER),
    "Mixtral": ("MixtralForCausalLM", {**DECODER, "num_local_experts": 2}),
    "ViT": ("ViTForImageClassification", IMAGE),
    "DeiT": ("DeiTModel", IMAGE),
    "CLIP, texts": ("CLIPTextModel", {**SIZES, "max_position_embeddings": 32, "eos_token_id": 2}),
    "ResNet": ("ResNetModel", {"embedding_size": 32, "hidden_sizes": [32, 64], "depths": [1, 1], "layer_type": "basic"}),
    "Wav2Vec2": ("Wav2Vec2Model", {**SIZES, **SPEECH, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}),
}


def sequence(*layers: nn.Module) -> nn.Module:
    """Return layers one after another."""
    return nn.Sequential(*layers)


class Takes(nn.Module):
    """Layers, and how they are called."""

    def __init__(self, forward: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.function = nn.ModuleList(layers), forward

    def forward(self, *args: torch.Tensor) -> Any:
        """Call the layers."""
        return self.function(self.layers, *args)


def _steps(layers: nn.ModuleList, x: torch.Tensor) -> Any:
    h = c = torch.zeros(x.shape[0], 64)
    for step in range(x.shape[1]):
        h, c = layers[0](x[:, step], (h, c))
    return h


def _early_exit(layers: nn.ModuleList, x: torch.Tensor) -> Any:
    y = layers[0](x)
    return layers[1](y) if y.mean() > 0 else layers[2](y)


def _broken(layers: nn.ModuleList, x: torch.Tensor) -> Any:
    y = layers[0](x)
    torch._dynamo.graph_break()
    return layers[1](y)


X, IDS = torch.randn(4, 64), torch.randint(0, 64, (2, 8))
STEPS, PIXELS = torch.randn(2, 6, 64), torch.randn(2, 16, 8, 8)
LINEAR = (64, 64)
OF_TORCH: dict[str, tuple[Callable[[], nn.Module], tuple[torch.Tensor, ...]]] = {
    "linear layers": (lambda: sequence(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64)), (X,)),
    "linear layers and BatchNorm1d": (lambda: sequence(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.Linear(128, 64)), (X,)),
    "LSTM": (lambda: nn.LSTM(*LINEAR, batch_first=True), (STEPS,)),
    "LSTM, both ways": (lambda: nn.LSTM(*LINEAR, bidirectional=True), (STEPS,)),
    "GRU": (lambda: nn.GRU(*LINEAR), (STEPS,)),
    "LSTMCell in a loop": (lambda: Takes(_steps, nn.LSTMCell(*LINEAR)), (STEPS,)),
    "MultiheadAttention": (
        lambda: Takes(lambda own, x: own[0](x, x, x), nn.MultiheadAttention(64, 2, batch_first=True)),
        (STEPS,),
    ),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(64, 2, 128, batch_first=True), (STEPS,)),
    "Transformer": (lambda: nn.Transformer(64, 2, 1, 1, 128, batch_first=True), (STEPS, STEPS)),
    "Conv1d": (lambda: sequence(nn.Conv1d(6, 64, 3), nn.GELU(), nn.Conv1d(64, 32, 3)), (STEPS,)),
    "Conv2d": (lambda: sequence(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)), (PIXELS,)),
    "EmbeddingBag": (lambda: sequence(nn.EmbeddingBag(64, 64), nn.Linear(64, 32)), (IDS,)),
    "an early exit": (lambda: Takes(_early_exit, *(nn.Linear(64, 64) for _ in range(3))), (X,)),
    "a break between layers": (lambda: Takes(_broken, nn.Linear(64, 64), nn.Linear(64, 64)), (X,)),
}


def made(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """Return a model and what it is called with, by place and by name."""
    torch.manual_seed(0)
    if name in OF_TORCH:
        make, args = OF_TORCH[name]
        return make().eval(), args, {}
    import transformers

    from tvm_balanced.frontend.huggingface import examples_of

    kind = getattr(transformers, OF_TRANSFORMERS[name][0])
    model = kind(kind.config_class(**OF_TRANSFORMERS[name][1])).eval()
    return model, (), examples_of(model, None, 1, 16)[0]


def row_of(name: str) -> dict[str, Any]:
    """Return what comes of a model under torch.compile."""
    from torch._dynamo.utils import counters

    import tvm_balanced as tb

    model, args, kwargs = made(name)
    tb.prune(model, "4:16", exclude=["lm_head"] if hasattr(model, "lm_head") else ())
    torch._dynamo.reset()
    counters.clear()
    said = _Said()
    logging.getLogger("tvm_balanced").addHandler(said)
    try:
        with torch.no_grad():
            want = model(*args, **kwargs)
            got = torch.compile(model, backend="tvm_balanced", options={"threads": 1, "cache": False})(*args, **kwargs)
    finally:
        logging.getLogger("tvm_balanced").removeHandler(said)
    ours = counters["tvm_balanced"]
    return {
        "model": name,
        "difference": f"{_difference(got, want):.1e}",
        "graphs": counters["stats"]["unique_graphs"],
        "breaks": sum(counters["graph_break"].values()),
        "compiled": ours["modules compiled"],
        "without_a_layer": ours["graphs without a layer"],
        "fell_back": ours["graphs that fell back"],
        "reason": "; ".join(said.lines),
    }


class _Said(logging.Handler):
    """Keeps warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.lines.append(record.getMessage())


def _difference(got: Any, want: Any) -> float:
    """Return the largest difference of two results, relative to the largest value of an output, or 1 if that is less."""
    pairs = list(zip(_tensors(got), _tensors(want), strict=True))
    return max(float((a - b).abs().max()) / max(1.0, float(b.abs().max())) for a, b in pairs)


def _tensors(result: Any) -> list[torch.Tensor]:
    """Return the tensors of a result; a cache of transformers has them in its layers."""
    caches = pytree.tree_map(_opened, result, is_leaf=lambda part: hasattr(part, "layers"))
    return [leaf for leaf in pytree.tree_leaves(caches) if isinstance(leaf, torch.Tensor)]


def _opened(leaf: Any) -> Any:
    return [(layer.keys, layer.values) for layer in leaf.layers] if hasattr(leaf, "layers") else leaf


def timed() -> list[str]:
    """Return the models that benchmarks.zoo has in a real size, and of which the backend compiles something."""
    from benchmarks import zoo  # which takes its models from here

    rows, cases = read(), zoo.names()
    return [name for name in names() if name in cases and int(rows.get(name, {"compiled": "1"})["compiled"])]


def time_of(name: str, seconds: float) -> dict[str, Any]:
    """Return how long a call through torch.compile takes, and how many times that of the module of `tb.compile`; also without the
    guards of dynamo, which find out whether the model or its arguments are others than at the call before.
    """
    import tvm_balanced as tb
    from benchmarks import zoo

    model, args, kwargs = zoo.made(name)
    module = tb.compile(model, args, kwargs, threads=1, race=False)

    def run(call: Callable[..., Any], _number: int) -> Seconds:
        started = time.thread_time()  # which does not count other processes
        call(*args, **kwargs)
        return Seconds(time.thread_time() - started)

    def beside(**options: Any) -> Timing:
        torch._dynamo.reset()  # to dynamo both are one backend: it would call what it compiled without guards for both
        options |= {"threads": 1, "cache": False}
        fast = torch.compile(model, backend="tvm_balanced", options=options)
        return measure_paired({"backend": partial(run, fast), "compile": partial(run, module)}, seconds=seconds / 2)

    with torch.no_grad(), other_load() as others:
        timing, unguarded = beside(), beside(guard_filter_fn=torch.compiler.skip_all_guards_unsafe)
    ratio = timing.speedup("compile", over="backend")
    row = {"model": name, "rounds": len(timing.times["compile"]), "us": f"{timing.microseconds('backend'):.1f}"}
    row |= {"compile_us": f"{timing.microseconds('compile'):.1f}", "others": f"{others.share:.2f}"}
    row |= {"unguarded": f"{unguarded.speedup('compile', over='backend').p50:.3f}"}
    return row | {part: f"{getattr(ratio, part):.3f}" for part in ("p20", "p50", "p80")}


def summary(rows: Collection[Mapping[str, Any]]) -> str:
    """Return which models take longer through torch.compile than they may, with dynamo's guards and without."""
    return "\n".join(f"{len(rows)} models beside tb.compile{_said(rows, column)}" for column in ("p50", "unguarded"))


def _said(rows: Iterable[Mapping[str, Any]], column: str) -> str:
    ratios = {row["model"]: float(row[column]) for row in rows}
    slower = [f"{name} {ratio:.3f}" for name, ratio in ratios.items() if ratio > SLOWEST]
    most, mean = max(ratios, key=ratios.__getitem__), statistics.geometric_mean(ratios.values())
    said = f"{len(slower)} take" if slower else "none takes"
    listed = f": {', '.join(slower)}" if slower else ""
    mode = ", guards skipped" if column == "unguarded" else ""
    return f"{mode}: {mean:.3f} in the mean, {said} more than {SLOWEST} times{listed}; the most is {most} with {ratios[most]:.3f}"


def beside_compile(models: Iterable[str], minutes: float, seconds: float, again: bool, path: Path = TIMES) -> None:
    """Time models, as many as fit into so many minutes, append their rows, and print what they mean."""
    end, longest = time.monotonic() + 60 * minutes, 0.0
    left: list[str] = []
    for name in models:
        if name in read(path) and not again:
            continue
        started = time.monotonic()
        if started + longest > end:
            left.append(name)
            continue
        row = time_of(name, seconds)
        longest = max(longest, time.monotonic() - started)
        append(path, TIMES_COLUMNS, [stamp() | row])
        print(f"{name}: {row['p50']} ({row['p20']} to {row['p80']}), {row['us']} us", flush=True)
    if left:
        print(f"not timed within {minutes:g} minutes: {', '.join(left)}; call this again for them")
    print(summary(read(path).values()))


def read(path: Path = DATA) -> dict[str, dict[str, str]]:
    """Return the rows that are there, the last of each model, by model."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def write(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Write rows in the order of the models."""
    with DATA.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[name] for name in names() if name in rows)


def names() -> list[str]:
    """Return all models."""
    return [*OF_TRANSFORMERS, *OF_TORCH]


def lines() -> Iterable[str]:
    """Yield the table of docs/support.md."""
    rows = read()
    yield "| | results | graphs | breaks | compiled | without a layer | left to PyTorch |"
    yield "|---|---|---|---|---|---|---|"
    for name in names():
        row = rows.get(name)
        if row is None:
            yield f"| {name} | not run | | | | | |"
            continue
        equal = "equal" if float(row["difference"]) <= LIMIT else f"WRONG: {row['difference']}"
        why = f"{row['fell_back']}: {row['reason']}" if row["reason"] else row["fell_back"]
        yield f"| {name} | {equal} | {row['graphs']} | {row['breaks']} | {row['compiled']} | {row['without_a_layer']} | {why} |"


def main() -> None:
    """Run models and write their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="some of them")
    parser.add_argument("--again", action="store_true", help="also those that have a row")
    parser.add_argument("--beside-compile", action="store_true", help="time them beside tb.compile")
    parser.add_argument("--minutes", type=float, default=4.5, help="of that; %(default)s by default")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing a model; %(default)s by default")
    parser.add_argument("--out", type=Path, default=TIMES, help="where times go; %(default)s by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.beside_compile:
        beside_compile(options.models or timed(), options.minutes, options.seconds, options.again, options.out)
        return
    for name in options.models or names():
        if options.again or name not in read():
            row = row_of(name)
            print(*row.values(), sep=" | ", flush=True)
            write(read() | {name: row})


if __name__ == "__main__":
    main()
