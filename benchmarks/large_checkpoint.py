"""A sharded checkpoint of 3 billion pruned weights beside transformers: memory, tokens, and the time of each.

    python -m benchmarks.large_checkpoint FOLDER                   # a Llama in bfloat16 at 2:16, 6 GB on disk, four shards
    python -m benchmarks.large_checkpoint FOLDER --kernel cpu_avx512_w8
    python -m benchmarks.large_checkpoint FOLDER --layers 2 --hidden 256

The checkpoint is written if it is not there. transformers' generate, compiling, and our generate have a process each, so that
peaks are their own; one thread, batch 1; times are CPU seconds. Compared are the texts that both write, and, since one other
token changes all that follow, the token that each finds the most probable behind transformers' text. Where these differ, the gap
of their logits is printed beside the largest difference of any logit.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import tvm_balanced as tb
from benchmarks.cell import append, stamp
from benchmarks.generate import Moments
from tvm_balanced.core.encoding import Array
from tvm_balanced.testing.peak_memory import peak

NEW, PROMPT, SHARDS, BLOCK, KEPT = 16, 32, 4, 16, 2
DATA = Path(__file__).parent / "data" / "large_checkpoint.csv"
COLUMNS = (
    *("date", "cpu", "versions", "weights", "layers", "hidden", "kernel", "compile_s", "compile_mb", "packed_mb"),
    *("ours_s", "ours_mb", "eager_s", "eager_mb", "same_text", "same_tokens", "difference", "gap"),
)


def config(layers: int, hidden: int) -> LlamaConfig:
    """Return a Llama with a third as many heads of keys as of queries."""
    sizes = {"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": layers, "vocab_size": 32_000}
    heads = hidden // 64 if hidden < 1024 else hidden // 128
    return LlamaConfig(**sizes, num_attention_heads=heads, num_key_value_heads=max(1, heads // 3), dtype="bfloat16")


def pruned(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return a bfloat16 weight (N, K) with 2 of every 16, which keeps the variance of what it is multiplied by."""
    blocks = shape[0] * shape[1] // BLOCK
    first = torch.randint(0, BLOCK, (blocks, 1), generator=generator)
    places = torch.cat([first, (first + torch.randint(1, BLOCK, (blocks, 1), generator=generator)) % BLOCK], 1)
    values = torch.randn(blocks, KEPT, generator=generator) * (BLOCK / KEPT / shape[1]) ** 0.5
    weight = torch.zeros(blocks, BLOCK, dtype=torch.bfloat16)
    return weight.scatter_(1, places, values.bfloat16()).reshape(shape)


def write(folder: Path, layers: int, hidden: int) -> None:
    """Write a checkpoint shard by shard, so that no more than one is in memory."""
    folder.mkdir(parents=True)
    with torch.device("meta"):
        shapes = {name: tuple(weight.shape) for name, weight in LlamaForCausalLM(config(layers, hidden)).state_dict().items()}
    generator, files, total = torch.Generator().manual_seed(0), {}, 0

    def weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if len(shape) == 1:
            return torch.ones(shape, dtype=torch.bfloat16)
        if "embed" in name or "lm_head" in name:
            return (torch.randn(shape, generator=generator) / shape[1] ** 0.5).bfloat16()
        return pruned(shape, generator)

    names = list(shapes)
    for shard in range(SHARDS):
        part = names[shard * len(names) // SHARDS : (shard + 1) * len(names) // SHARDS]
        file = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        tensors = {name: weight(name, shapes[name]) for name in part}
        save_file(tensors, folder / file, {"format": "pt"})
        files |= dict.fromkeys(part, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    said = config(layers, hidden)
    said.architectures = ["LlamaForCausalLM"]
    said.save_pretrained(folder)


def prompt() -> torch.Tensor:
    """Return the tokens of the prompt, (1, PROMPT)."""
    return torch.randint(3, 32_000, (1, PROMPT), generator=torch.Generator().manual_seed(1))


def seconds(run: Callable[[Moments], Any]) -> float:
    """Return the median CPU time of a token after the first, once all of it is in memory."""
    run(Moments())
    moments = Moments(time.process_time)
    run(moments)
    return float(np.median(np.diff(moments.seen[-NEW:])))


def eager(folder: Path) -> dict[str, Any]:
    """Write a text by transformers."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0
    given: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False}
    took = seconds(lambda moments: model.generate(prompt(), **given, streamer=moments))
    result = model.generate(prompt(), **given, return_dict_in_generate=True, output_logits=True)
    np.save(folder / "eager.npy", torch.cat(result.logits).float().numpy())
    return {"tokens": result.sequences[0, PROMPT:].tolist(), "seconds": took}


def compiling(folder: Path, kernel: str) -> dict[str, Any]:
    """Compile for decoding, and save."""
    started = time.process_time()
    kernels = {"model.layers.*": kernel} if kernel else None
    compiled = tb.compile_causal_lm(folder, max_length=PROMPT + NEW, threads=1, kernels=kernels)
    packed = sum(weight.numel() * weight.dtype.itemsize for _, weight in compiled.weights)
    took = time.process_time() - started
    shutil.rmtree(folder / "model.tb", ignore_errors=True)  # of another kernel
    compiled.save(folder / "model.tb")
    return {"seconds": took, "packed_mb": packed / 2**20}


def ours(folder: Path) -> dict[str, Any]:
    """Write a text by a compiled model, and return the logits behind transformers' text."""
    compiled = tb.load(folder / "model.tb", threads=1)
    ids, text = prompt().numpy(), json.loads((folder / "eager.json").read_text())["tokens"]

    def generate(moments: Moments) -> Array:
        written: Array = compiled.generate(ids, max_new_tokens=NEW, eos_token_id=-1, streamer=moments)
        return written

    took, tokens = seconds(generate), generate(Moments())[0, PROMPT:]
    logits, decode = compiled._begin(ids, np.ones_like(ids))
    found = [logits]
    for count, token in enumerate(text[:-1], 1):
        found.append(decode(np.array([[token]]), count))
    np.save(folder / "ours.npy", np.concatenate(found))
    return {"tokens": tokens.tolist(), "seconds": took}


def compared(texts: tuple[list[int], list[int]], logits: tuple[Array, Array]) -> dict[str, Any]:
    """Compare two texts, ours first, and logits (tokens, V) behind the second.

    Returns how many tokens both texts begin with, how many are the most probable by both logits, the largest difference of two
    logits, and, where another token is the most probable, the largest gap of its logit to the best one in the second.
    """
    same_text = int(np.cumprod(np.equal(*texts)).sum())
    best = [each.argmax(-1) for each in logits]
    places, other = np.arange(len(best[0])), best[0] != best[1]
    gaps = (logits[1][places, best[1]] - logits[1][places, best[0]])[other]
    return {
        "same_text": same_text,
        "same_tokens": int((~other).sum()),
        "difference": float(np.abs(logits[0] - logits[1]).max()),
        "gap": float(gaps.max(initial=0.0)),
    }


STAGES: dict[str, Callable[..., dict[str, Any]]] = {"eager": eager, "compiling": compiling, "ours": ours}


def staged(folder: Path, stage: str, kernel: str) -> dict[str, Any]:
    """Run a part in a process of its own, and return what it says, its peak of memory too."""
    words = [sys.executable, "-m", "benchmarks.large_checkpoint", str(folder), "--stage", stage, "--kernel", kernel]
    subprocess.run(words, check=True)
    said: dict[str, Any] = json.loads((folder / f"{stage}.json").read_text())
    print(f"{stage}: " + ", ".join(f"{name} {value:,.3f}" for name, value in said.items() if name != "tokens"), flush=True)
    return said


def main() -> None:
    """Write a checkpoint, compile it, write texts and compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the checkpoint, made if it is not there")
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--hidden", type=int, default=3072)
    parser.add_argument("--kernel", default="", help="of all pruned layers; by default what the verdict says")
    parser.add_argument("--out", type=Path, default=DATA)
    parser.add_argument("--stage", choices=tuple(STAGES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.stage:
        said = STAGES[options.stage](options.folder, *([options.kernel] if options.stage == "compiling" else []))
        (options.folder / f"{options.stage}.json").write_text(json.dumps(said | {"peak_mb": peak() / 2**20}))
        return
    if not options.folder.exists():
        write(options.folder, options.layers, options.hidden)
    measure(options)


def measure(options: argparse.Namespace) -> None:
    """Run all parts, print and append what they say."""
    folder = options.folder
    parts = {stage: staged(folder, stage, options.kernel) for stage in STAGES}
    logits = np.load(folder / "ours.npy"), np.load(folder / "eager.npy")
    found = compared((parts["ours"]["tokens"], parts["eager"]["tokens"]), logits)
    print(f"both texts begin with {found['same_text']} of {NEW} tokens that are the same")
    print(
        f"behind transformers' text {found['same_tokens']} of {NEW} tokens are the most probable to both; where not, logits "
        f"are {found['gap']:.4f} apart, and two logits differ by {found['difference']:.4f} at most"
    )
    said = json.loads((folder / "config.json").read_text())
    size = json.loads((folder / "model.safetensors.index.json").read_text())["metadata"]["total_size"]
    row = {"weights": size // 2, "layers": said["num_hidden_layers"], "hidden": said["hidden_size"], "kernel": options.kernel}
    for name, part in zip(("eager", "compile", "ours"), parts.values(), strict=True):
        row |= {f"{name}_s": f"{part['seconds']:.3f}", f"{name}_mb": f"{part['peak_mb']:.0f}"}
    row |= {"packed_mb": f"{parts['compiling']['packed_mb']:.0f}", "same_text": found["same_text"]}
    row |= {"same_tokens": found["same_tokens"], "difference": f"{found['difference']:.4f}", "gap": f"{found['gap']:.4f}"}
    append(options.out, COLUMNS, [stamp() | row])


if __name__ == "__main__":
    main()
