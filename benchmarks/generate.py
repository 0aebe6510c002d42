"""A language model beside `generate` of transformers.

    python -m benchmarks.generate --every             # 2:16 and 4:16, prompts of 128 and 1024, float32, bfloat16 and w8: 12 cells
    python -m benchmarks.generate --pattern 4:16 --weights w8 --prompt 1024
    python -m benchmarks.generate --every --tiny      # are the tokens the same? A model of one small layer, a moment each

A Llama of hidden 1024, 8 layers and a vocabulary of 8,000, one thread, batch 1. Both write the same tokens, but for ties and what
8 bits round. The weights w8 are those of pruned layers in 8 bits, beside eager float32. The time of prefill is that until the
first token; a step is what each further token takes. `--model` keeps the compiled model in a folder, and takes it from there.
"""

import argparse
import csv
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import tvm_balanced as tb
from benchmarks.cell import append, stamp
from benchmarks.interference import other_load
from tvm_balanced.timing.paired import Seconds, measure_paired

NEW = 16  # tokens of a measurement
COLUMNS = (
    *("date", "cpu", "versions", "hidden", "pattern", "weights", "prompt", "what", "rounds", "same_tokens"),
    *("tokens_per_s", "p20", "p50", "p80", "others"),
)
WEIGHTS = ("float32", "bfloat16", "w8")
SIZES = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8, "num_attention_heads": 16, "vocab_size": 8000}
TINY = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 500}
EVERY = tuple(itertools.product(("2:16", "4:16"), WEIGHTS, (128, 1024)))


def model(pattern: str, weights: str = "float32", sizes: Mapping[str, int] = SIZES) -> LlamaForCausalLM:
    """Return a model that writes without an end."""
    torch.manual_seed(0)
    lm = LlamaForCausalLM(LlamaConfig(**sizes, max_position_embeddings=4096)).eval()
    lm.generation_config.eos_token_id, lm.generation_config.pad_token_id = None, 0
    tb.prune(lm, pattern, exclude=["lm_head"])
    return lm.to(torch.bfloat16) if weights == "bfloat16" else lm


def compiled_of(lm: LlamaForCausalLM, weights: str, prompt: int) -> tb.CausalLM:
    """Return a model compiled for a prompt and what is written after it."""
    kernels = {"model.*": "cpu_avx512_w8"} if weights == "w8" else None
    return tb.compile_causal_lm(lm, max_length=prompt + NEW + 1, threads=1, kernels=kernels)


def main() -> None:
    """Compile, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of the prompt")
    parser.add_argument("--pattern", default="2:16")
    parser.add_argument("--weights", choices=WEIGHTS, default="float32")
    parser.add_argument("--every", action="store_true", help="every pattern, weights and prompt")
    parser.add_argument("--tiny", action="store_true", help="a small model, for its tokens: its times mean nothing")
    parser.add_argument("--model", type=Path, help="folder of the compiled model, made if it is not there")
    parser.add_argument("--summary", action="store_true", help="measure nothing, and print the last rows as a table")
    parser.add_argument("--only-compile", action="store_true", help="measure nothing")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each cell")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data" / "generate.csv")
    options = parser.parse_args()
    if options.every and options.model is not None:
        parser.error("--model keeps one model; leave --every away")
    if options.summary:
        with options.out.open(newline="") as file:
            print("\n".join(table(list(csv.DictReader(file)))))
        return
    torch.set_num_threads(1)
    cells = EVERY if options.every else ((options.pattern, options.weights, options.prompt),)
    for options.pattern, options.weights, options.prompt in cells:
        one_cell(options)


def table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the last row of each cell as lines of a Markdown table."""
    cells = {(row["pattern"], row["weights"], row["prompt"], row["what"]): row for row in rows}
    lines = ["| pattern, weights, prompt | a token: tokens/s, over eager | the prompt: tokens/s, over eager |", "|---|---|---|"]
    for pattern, weights, prompt in ((pattern, weights, str(prompt)) for pattern, weights, prompt in EVERY):
        both = [cells.get((pattern, weights, prompt, what)) for what in ("step", "prefill")]
        lines.append("| " + " | ".join([f"{pattern}, {weights}, {prompt}", *map(_cell, both)]) + " |")
    return lines


def _cell(row: Mapping[str, str] | None) -> str:
    if row is None:
        return "-"
    rate, p20, p50, p80 = (float(row[name]) for name in ("tokens_per_s", "p20", "p50", "p80"))
    return f"{rate:,.0f}, {p50:.1f} ({p20:.1f} to {p80:.1f})"


def one_cell(options: argparse.Namespace) -> None:
    """Compile the model of a cell, or load it, and measure it."""
    lm = model(options.pattern, options.weights, TINY if options.tiny else SIZES)
    if options.model is not None and options.model.exists():
        compiled = tb.load(options.model, threads=1)
    else:
        compiled = compiled_of(lm, options.weights, options.prompt)
        if options.model is not None:
            compiled.save(options.model)
    if not options.only_compile:
        measure(lm, compiled, options)


class Moments:
    """When tokens came, in seconds of a clock: a streamer for `generate` of transformers and for ours."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.seen: list[float] = []

    def put(self, _: Any) -> None:
        """Note the time."""
        self.seen.append(self.clock())

    def end(self) -> None:
        """Take the end of a text, as transformers asks."""


def measure(lm: LlamaForCausalLM, compiled: tb.CausalLM, options: argparse.Namespace) -> None:
    """Print and append the times of a step and of prefill."""
    ids = torch.randint(3, lm.config.vocab_size, (1, options.prompt), generator=torch.Generator().manual_seed(1))
    rivals: dict[str, Callable[[Moments], Any]] = {
        "ours": lambda moments: compiled.generate(ids, max_new_tokens=1 + NEW, streamer=moments.put),
        "eager": lambda moments: lm.generate(ids, max_new_tokens=1 + NEW, do_sample=False, streamer=moments),
    }
    texts = [write(Moments()) for write in rivals.values()]
    same = int((texts[0] == texts[1])[0, options.prompt :].int().cumprod(0).sum())
    cell = f"{options.pattern}, {options.weights}, a prompt of {options.prompt}"
    print(f"{cell}: the first {same} of {1 + NEW} new tokens are the same")

    def moments_of(name: str) -> list[float]:
        moments = Moments()
        rivals[name](moments)
        return moments.seen[-1 - NEW :]  # transformers' streamer is given the prompt first

    def step(name: str) -> Seconds:
        first, *_, last = moments_of(name)
        return Seconds((last - first) / NEW)

    def prefill(name: str) -> Seconds:
        started = time.perf_counter()
        return Seconds(moments_of(name)[0] - started)

    for what, run, tokens in (("step", step, 1), ("prefill", prefill, options.prompt)):
        calls = {name: partial(_call, run, name) for name in rivals}
        with other_load() as others:
            timing = measure_paired(calls, 15, options.seconds / 2, warm=0, least=4)
        rates = {name: tokens / timing.microseconds(name) * 1e6 for name in rivals}
        ratio = timing.speedup("ours", "eager")
        print(
            f"{what} after {options.prompt} tokens: " + ", ".join(f"{name} {rate:.1f} tokens/s" for name, rate in rates.items())
        )
        print(f"    {ratio.p50:.2f}x (p20 {ratio.p20:.2f}, p80 {ratio.p80:.2f})")
        row = {name: getattr(options, name) for name in ("pattern", "weights", "prompt")}
        row |= {"hidden": lm.config.hidden_size, "what": what, "rounds": len(timing.times["ours"]), "same_tokens": same}
        row |= {"tokens_per_s": f"{rates['ours']:.1f}", "others": f"{others.share:.2f}"}
        row |= {p: f"{getattr(ratio, p):.3f}" for p in ("p20", "p50", "p80")}
        append(options.out, COLUMNS, [stamp() | row])


def _call(run: Callable[[str], Any], name: str, _: int) -> Any:
    return run(name)


if __name__ == "__main__":
    main()
