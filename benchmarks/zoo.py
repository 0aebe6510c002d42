"""Is any model slower than in PyTorch? `python -m benchmarks.zoo [--cases WORD ...] [--threads 1 2] [--target cpu/x86-64-v3]`.

Fifty models of small but real sizes at 4:16 with random weights, each in a process of its own: compiled, then timed in turns
with eager PyTorch by the wall clock. For each case the 20th, 50th and 80th percentile of the paired ratios; for vision, audio,
recurrent and text the geometric mean of their medians over all cases that take eager PyTorch a millisecond at least, and which
of these are slower: even the 80th percentile is below 1. Rows are appended to data/zoo.csv as they are measured.
`--target cpu/x86-64-v3` compiles for AVX2, beside PyTorch limited to it. `--table` measures nothing, and prints the last rows as
a table. Takes 15 seconds a case and number of threads on two idle cores.
"""

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tvm_balanced as tb
from benchmarks.bootstrap import geometric_mean
from benchmarks.cell import append, stamp
from benchmarks.instruction_sets import TARGETS, limits_of
from benchmarks.interference import other_load
from benchmarks.torch_compile import OF_TRANSFORMERS, Takes
from tvm_balanced.errors import TvmBalancedError, first_line
from tvm_balanced.frontend.eager import running
from tvm_balanced.frontend.pruning.magnitude import keep_mask
from tvm_balanced.timing.paired import PAUSE, measure_paired

DATA = Path(__file__).parent / "data" / "zoo.csv"
COLUMNS = (
    *("date", "cpu", "versions", "case", "kind", "pattern", "threads", "target"),
    *("rounds", "us", "eager_us", "p20", "p50", "p80", "compile_s", "others", "note"),
)
PATTERN = "4:16"
LEAST_US = 1000.0  # of an eager call that counts
SECONDS_TO_COMPILE = 600
# Fields of transformers' configs, in place of the tiny ones of benchmarks.torch_compile
LARGER = {
    **{"hidden_size": 256, "d_model": 256, "dim": 256, "n_embd": 256, "embedding_size": 128, "head_dim": 64, "d_kv": 64},
    **{"intermediate_size": 1024, "hidden_dim": 1024, "d_ff": 1024, "vocab_size": 1000, "n_positions": 256, "image_size": 224},
    **{"num_attention_heads": 4, "n_heads": 4, "num_heads": 4, "n_head": 4, "num_key_value_heads": 2},
    **{
        "max_position_embeddings": 256,
        "num_hidden_layers": 2,
        "n_layers": 2,
        "num_layers": 2,
        "n_layer": 2,
        "num_decoder_layers": 2,
    },
}
LENGTH = 64  # tokens
VISION, AUDIO, RECURRENT, TEXT = KINDS = ("vision", "audio", "recurrent", "text")
Case = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
WAVES = {"conv_dim": [128] * 7, "num_conv_pos_embeddings": 32, "num_conv_pos_embedding_groups": 4}
ENCODER = {name: LARGER[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")}
FURTHER: dict[str, tuple[str, str, Mapping[str, Any]]] = {  # kind, class and fields
    "ResNet-50": (VISION, "ResNetModel", {}),
    "ConvNeXt": (VISION, "ConvNextModel", {"depths": [1, 1, 3, 1]}),
    "RegNet": (VISION, "RegNetModel", {"hidden_sizes": [48, 96, 192, 384], "depths": [1, 2, 4, 2], "groups_width": 48}),
    "MobileNetV2": (VISION, "MobileNetV2Model", {}),
    "EfficientNet": (
        VISION,
        "EfficientNetModel",
        {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280, "image_size": 224},
    ),
    "Swin": (VISION, "SwinModel", {"depths": [2, 2, 2, 2]}),
    "BEiT": (VISION, "BeitModel", ENCODER),
    "DINOv2": (VISION, "Dinov2Model", ENCODER),
    "SegFormer": (VISION, "SegformerModel", {}),
    "Whisper, encoder": (AUDIO, "WhisperModel", {"encoder_layers": 2, "decoder_layers": 1}),
    "Wav2Vec2": (AUDIO, "Wav2Vec2Model", ENCODER | WAVES),
    "HuBERT": (AUDIO, "HubertModel", ENCODER | WAVES),
    "AST": (AUDIO, "ASTModel", ENCODER),
    "Mamba": (RECURRENT, "MambaModel", {"num_hidden_layers": 2, "hidden_size": 256, "vocab_size": 1000, "use_cache": False}),
}
LEFT_OUT = {"ResNet", "Wav2Vec2"}  # which FURTHER has in their own sizes


def _cells(cell: Callable[..., nn.Module]) -> nn.Module:
    """Return a loop over cells in Python, which torch.export unrolls."""

    def run(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        states: Any = None
        for step in range(x.shape[1]):
            states = layers[0](x[:, step], states)
        return states[0] if isinstance(states, tuple) else states

    return Takes(run, cell(256, 256))


def _recurrent(layer: Callable[..., nn.Module], width: int, steps: int, **options: Any) -> Callable[[], Case]:
    return lambda: (layer(width, width, batch_first=True, **options), (torch.randn(1, steps, width),), {})


def _with_head(layers: nn.ModuleList, ids: torch.Tensor) -> torch.Tensor:
    return layers[2](layers[1](layers[0](ids))[0][:, -1])


def _images(*layers: nn.Module, channels: int = 64, size: int = 56) -> Case:
    return nn.Sequential(*layers), (torch.randn(1, channels, size, size),), {}


OF_TORCH: dict[str, tuple[str, Callable[[], Case]]] = {
    "LSTM": (RECURRENT, _recurrent(nn.LSTM, 512, 64)),
    "LSTM, two layers": (RECURRENT, _recurrent(nn.LSTM, 512, 64, num_layers=2)),
    "LSTM, both ways": (RECURRENT, _recurrent(nn.LSTM, 512, 64, bidirectional=True)),
    "GRU": (RECURRENT, _recurrent(nn.GRU, 512, 64)),
    "RNN": (RECURRENT, _recurrent(nn.RNN, 512, 64)),
    "LSTMCell in a loop": (RECURRENT, lambda: (_cells(nn.LSTMCell), (torch.randn(1, 16, 256),), {})),
    "GRUCell in a loop": (RECURRENT, lambda: (_cells(nn.GRUCell), (torch.randn(1, 16, 256),), {})),
    "LSTM, classifier": (
        RECURRENT,
        lambda: (
            Takes(_with_head, nn.Embedding(1000, 256), nn.LSTM(256, 256, 2, batch_first=True), nn.Linear(256, 10)),
            (torch.randint(0, 1000, (2, LENGTH)),),
            {},
        ),
    ),
    "Transformer": (TEXT, lambda: (nn.Transformer(256, 4, 2, 2, 1024, batch_first=True), (torch.randn(2, 64, 256),) * 2, {})),
    "TransformerEncoder": (
        TEXT,
        lambda: (
            nn.TransformerEncoder(nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True), 2),
            (torch.randn(2, 64, 256),),
            {},
        ),
    ),
    "Conv1d": (
        AUDIO,
        lambda: (
            nn.Sequential(nn.Conv1d(80, 256, 3, padding=1), nn.GELU(), nn.Conv1d(256, 256, 3, 2, 1)),
            (torch.randn(1, 80, 1000),),
            {},
        ),
    ),
    "Conv2d, groups and dilation": (
        VISION,
        lambda: _images(
            nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 128, 3, padding=2, dilation=2),
            nn.Conv2d(128, 128, 3, padding=1, groups=4), nn.Conv2d(128, 128, 3, padding=1, groups=128),
        ),
    ),
    "ConvTranspose2d": (
        VISION,
        lambda: _images(nn.Conv2d(64, 128, 3, 2, 1), nn.GroupNorm(8, 128), nn.SiLU(), nn.ConvTranspose2d(128, 64, 4, 2, 1)),
    ),
    "Conv3d": (
        VISION,
        lambda: (
            nn.Sequential(nn.Conv3d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2)),
            (torch.randn(1, 16, 16, 28, 28),),
            {},
        ),
    ),
}  # fmt: skip


def kind_of(case: str) -> str:
    """Return the kind of a case."""
    if case in OF_TORCH:
        return OF_TORCH[case][0]
    return FURTHER[case][0] if case in FURTHER else VISION if case in ("ViT", "DeiT") else TEXT


def names() -> list[str]:
    """Return all cases, kind by kind."""
    every = [*(name for name in OF_TRANSFORMERS if name not in LEFT_OUT), *FURTHER, *OF_TORCH]
    return sorted(every, key=lambda name: KINDS.index(kind_of(name)))


def made(case: str) -> Case:
    """Return the model of a case in eval mode, pruned, and what it is called with, by place and by name."""
    torch.manual_seed(0)
    if case in OF_TORCH:
        model, args, kwargs = OF_TORCH[case][1]()
    else:
        model, args, kwargs = _of_transformers(case)
    _prune(model.eval(), kind_of(case))
    return model, args, kwargs


def _of_transformers(case: str) -> Case:
    import transformers

    from tvm_balanced.frontend.huggingface import examples_of

    if case in FURTHER:
        name, fields = FURTHER[case][1:]
    else:
        name, tiny = OF_TRANSFORMERS[case]
        fields = {field: LARGER.get(field, value) for field, value in tiny.items()}
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**fields)).eval()
    if case == "Whisper, encoder":
        return model.get_encoder(), (torch.randn(1, 80, 3000),), {}
    if case == "AST":
        return model, (torch.randn(1, 1024, 128),), {}
    if kind_of(case) == AUDIO:
        return model, (torch.randn(1, 16000),), {}
    return model, (), examples_of(model, None, 1, LENGTH)[0]


def _prune(model: nn.Module, kind: str) -> None:
    """Prune what a kernel may skip: all layers that `tb.prune` knows, else every matrix of a recurrent layer."""
    if kind != RECURRENT:
        with contextlib.suppress(TvmBalancedError):  # three dimensions, which nothing prunes: it stays dense
            tb.prune(model, PATTERN, exclude=["lm_head"] if hasattr(model, "lm_head") else ())
        return
    pattern = tb.BalancedPattern.parse(PATTERN)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and parameter.shape[1] >= 16 and "emb" not in name and "A_log" not in name:
                parameter.mul_(keep_mask(parameter, pattern))


def measure(case: str, threads: int, target: str, seconds: float) -> dict[str, Any]:
    """Compile a case in this process and time it; return its row without what `stamp` has. A refusal is its note."""
    model, args, kwargs = made(case)
    row: dict[str, Any] = {"case": case, "kind": kind_of(case), "pattern": PATTERN, "threads": threads, "target": target}
    started = time.process_time()
    try:
        module = tb.compile(model, args, kwargs, threads=threads, target=target, race=False)
    except TvmBalancedError as error:
        return row | {"note": first_line(error)}
    row["compile_s"] = f"{time.process_time() - started:.1f}"
    with running(threads):
        rivals = {"ours": lambda _: module(*args, **kwargs), "eager": lambda _: model(*args, **kwargs)}
        timing = measure_paired(rivals, seconds=seconds, pause=PAUSE if threads > 1 else 0.0)
    ratio = timing.speedup("ours", "eager")
    row |= {"rounds": len(timing.times["ours"]), "us": f"{timing.microseconds('ours'):.1f}"}
    row |= {"eager_us": f"{timing.microseconds('eager'):.1f}"}
    return row | {name: f"{getattr(ratio, name):.3f}" for name in ("p20", "p50", "p80")}


def measure_apart(case: str, threads: int, target: str, seconds: float) -> dict[str, Any]:
    """Measure a case in a process of its own; one that ends otherwise has that as its note."""
    work = json.dumps([case, threads, target, seconds])
    command, env = [sys.executable, "-m", "benchmarks.zoo", "--one", work], os.environ | limits_of(target)
    with other_load() as neighbours:
        limit = SECONDS_TO_COMPILE + 10 * seconds
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=limit)
            said = done.stdout.splitlines() if done.returncode == 0 else []
            last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            said, last = [], f"takes more than {limit:.0f} s"
    failed = {"case": case, "kind": kind_of(case), "pattern": PATTERN, "threads": threads, "target": target, "note": last[:200]}
    row: dict[str, Any] = json.loads(said[-1]) if said else failed
    return row | {"others": f"{neighbours.share:.2f}"}


def summary(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each kind and number of threads: the geometric mean, and the cases that are slower than PyTorch."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row.get("p50") and float(row["eager_us"]) >= LEAST_US:
            groups[row["kind"], str(row["threads"]), row["target"]].append(row)
    lines = []
    for (kind, threads, target), own in sorted(groups.items(), key=lambda item: (item[0][2], item[0][1], item[0][0])):
        mean = geometric_mean([float(row["p50"]) for row in own])
        slower = [f"{row['case']} {row['p50']} ({row['p20']} to {row['p80']})" for row in own if float(row["p80"]) < 1]
        said = f"slower: {', '.join(slower)}" if slower else "none slower"
        lines.append(f"{kind}, {threads} thread{'s' * (threads != '1')}, {target}: {mean} x over {len(own)} cases, {said}")
    return lines


def table(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the last row of each case, number of threads and target as lines of a Markdown table, and the summary of these."""
    last = {(row["case"], row["target"], str(row["threads"])): row for row in rows}
    settings = sorted({(target, threads) for _, target, threads in last})
    names = [f"{threads} thread{'s' * (threads != '1')}, {target}" for target, threads in settings]
    lines = ["| case | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for kind, case in dict.fromkeys((row["kind"], row["case"]) for row in last.values()):
        lines.append("| " + " | ".join([f"{kind}: {case}", *(_cell(last.get((case, *setting))) for setting in settings)]) + " |")
    return [*lines, "", *summary(last.values())]


def _cell(row: Mapping[str, str] | None) -> str:
    if row is None or not row["p50"]:
        return row["note"] if row else "-"
    p20, p50, p80 = (float(row[name]) for name in ("p20", "p50", "p80"))
    return f"{float(row['us']) / 1e3:.2f} ms, {p50:.1f} ({p20:.1f} to {p80:.1f})"


def main() -> None:
    """Measure cases, append their rows, and print what they mean."""
    parser = argparse.ArgumentParser("python -m benchmarks.zoo", description=__doc__)
    parser.add_argument(
        "--cases", nargs="+", default=[""], metavar="WORD", help="cases whose name or kind has one of these words"
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--target", choices=TARGETS, default="cpu")
    parser.add_argument("--seconds", type=float, default=4.0, help="of timing a case; %(default)s by default")
    parser.add_argument("--list", action="store_true", help="print the cases")
    parser.add_argument("--table", action="store_true", help="measure nothing, and print the last rows as a table")
    parser.add_argument("--out", type=Path, default=DATA, help="the CSV; %(default)s by default")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*json.loads(options.one))))
        return
    if options.table:
        with options.out.open(newline="") as file:
            print(*table(csv.DictReader(file)), sep="\n")
        return
    cases = [name for name in names() if any(word in f"{kind_of(name)}: {name}" for word in options.cases)]
    if options.list:
        print(*(f"{kind_of(name)}: {name}" for name in cases), sep="\n")
        return
    rows = []
    for case in cases:
        for threads in options.threads:
            row = stamp() | measure_apart(case, threads, options.target, options.seconds)
            append(options.out, COLUMNS, [row])
            rows.append(row)
            times = f"{row['p50']} ({row['p20']} to {row['p80']}), {row['us']} us" if row.get("p50") else row["note"]
            print(f"{row['kind']}: {case}, {threads}: {times}", flush=True)
    print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
