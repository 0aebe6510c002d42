"""Whole models to measure, and what they are called with; all but MiniLM have random weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.demo.minilm import ENCODER_LINEARS, LENGTH, sentence_encoder, tokenize


def sentences() -> list[str]:
    """Return the sentences of the demonstration."""
    text = (Path(tb.__file__).parent / "demo" / "sentences.txt").read_text()
    return [line for line in text.split("\n") if line.strip()]


@dataclass(frozen=True)
class Subject:
    """A whole model to measure.

    Parameters
    ----------
    make : callable
        Returns the model.
    inputs : callable
        From a first example and a batch to the inputs of a call.
    include : str
        The layers that are pruned.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[[int, int], tuple[torch.Tensor, ...]]
    include: str = "*"


def _tokens(first: int, batch: int) -> tuple[torch.Tensor, ...]:
    texts = sentences()
    return tokenize([texts[(first + place) % len(texts)] for place in range(batch)])


def _ids(first: int, batch: int) -> tuple[torch.Tensor, ...]:
    ids = torch.randint(0, 30000, (batch, LENGTH), generator=torch.Generator().manual_seed(first))
    return ids, torch.ones_like(ids)


def _images(first: int, batch: int) -> tuple[torch.Tensor, ...]:
    return (torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(first)),)


def _spectra(first: int, batch: int) -> tuple[torch.Tensor, ...]:
    return (torch.randn(batch, 80, 3000, generator=torch.Generator().manual_seed(first)),)


class Last(nn.Module):
    """A model of transformers that returns one tensor: the last hidden state, or logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return it."""
        given = self.model(*inputs)
        return given.logits if hasattr(given, "logits") else given.last_hidden_state


def _of_transformers(name: str, **config: Any) -> nn.Module:
    import transformers

    torch.manual_seed(0)
    kind, model = getattr(transformers, f"{name.split('For')[0].removesuffix('Model')}Config"), getattr(transformers, name)
    return Last(model(kind(**config))).eval()


def vgg16() -> nn.Module:
    """Return VGG-16 (Simonyan and Zisserman, 2015) with random weights: 13 convolutions and 3 dense layers."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    depth = 3
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(depth, channels, 3, padding=1), nn.ReLU()]
            depth = channels
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for inputs, outputs in ((512 * 7 * 7, 4096), (4096, 4096), (4096, 1000)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def _whisper() -> nn.Module:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    torch.manual_seed(0)
    sizes = {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
    return Last(WhisperEncoder(WhisperConfig(**sizes))).eval()


SUBJECTS = {
    "minilm": Subject(lambda: sentence_encoder()[0], _tokens, ENCODER_LINEARS),
    "bert-base": Subject(lambda: _of_transformers("BertModel", attn_implementation="sdpa"), _ids, "model.encoder.*"),
    "vit-b16": Subject(lambda: _of_transformers("ViTModel", attn_implementation="sdpa"), _images, "model.layers.*"),
    "resnet50": Subject(lambda: _of_transformers("ResNetForImageClassification"), _images, "model.resnet.encoder.*"),
    "vgg16": Subject(vgg16, _images),
    "whisper-base": Subject(_whisper, _spectra, "model.*"),
}
