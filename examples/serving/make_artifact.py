"""Prune MiniLM, compile it for any number of texts at once, and write what the service needs into a folder.

python make_artifact.py model --pattern 2:16 --precision int8
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_model

import tvm_balanced as tb
from tvm_balanced.demo.demo import sentences
from tvm_balanced.demo.minilm import ENCODER_LINEARS, model_directory, sentence_encoder, tokenize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pattern", default="2:16")
    parser.add_argument("--precision", default="float32", choices=("float32", "int8"))
    parser.add_argument(
        "--max-loss", type=float, default=0.05, help="of 8 bits, relative to the embedding; %(default)s by default"
    )
    given = parser.parse_args()
    encoder, _ = sentence_encoder()
    ids, mask = tokenize(sentences()[:32])
    batches = list(zip(ids.split(8), mask.split(8), strict=True))
    print(
        tb.prune(encoder, given.pattern, include=[ENCODER_LINEARS], calibration=batches)
    )  # tb.distill next, to win back accuracy
    batch = torch.export.Dim("batch", max=64)
    rounding = {"precision": "int8", "calibration": batches, "max_loss": given.max_loss} if given.precision == "int8" else {}
    module = tb.compile(encoder, (ids[:8], mask[:8]), dynamic_shapes=({0: batch}, {0: batch}), threads=1, **rounding)
    print(module.report.title)
    given.folder.mkdir(parents=True)
    module.save(given.folder / "minilm.tb")
    save_model(encoder, str(given.folder / "pruned.safetensors"))
    shutil.copy(model_directory() / "tokenizer.json", given.folder)


if __name__ == "__main__":
    main()
