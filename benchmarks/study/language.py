"""An LSTM language model of Debian's package descriptions: perplexity for each piece of a word."""

import json
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from benchmarks.study import debian
from benchmarks.study.training import shuffled

WIDTH = 400  # blocks of 16, 25, 50 and 100 elements divide it
VOCABULARY = 1000
WINDOW = 50  # tokens
BATCH = 16  # windows
TESTED = 500  # held-out descriptions
SEPARATOR = "\n"


class LanguageModel(nn.Module):
    """Token ids (batch, tokens) int64 --> logits (batch, tokens, VOCABULARY)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.drop = nn.Dropout(0.1)
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.decoder = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the logits of each next token."""
        return self.decoder(self.drop(self.lstm(self.drop(self.embedding(ids)))[0]))


class Language:
    """The task: descriptions of packages that are not held out are learnt, the first TESTED of the others judged."""

    name = "language model"
    metric = "perplexity"
    include = ("lstm*", "decoder")
    dense_steps = 2000
    tune_steps = 200
    rate = 3e-3

    def __init__(self, folder: Path = debian.FOLDER) -> None:
        self._folder = folder

    def model(self) -> nn.Module:
        """Return a new model."""
        return LanguageModel()

    def batches(self, seed: int) -> Iterator[torch.Tensor]:
        """Yield windows (BATCH, WINDOW + 1) of the training text."""
        windows = self._data[0]
        yield from (windows[some] for some in shuffled(len(windows), BATCH, torch.Generator().manual_seed(seed)))

    def loss(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy of the next tokens."""
        return nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    def measure(self, model: nn.Module) -> float:
        """Return the perplexity of the held-out text, window by window."""
        losses = [self.loss(model, part).item() * part[:, 1:].numel() for part in self._data[1].split(64)]
        return math.exp(sum(losses) / self._data[1][:, 1:].numel())

    @cached_property
    def _data(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Windows of the training text and of the held-out one, each (windows, WINDOW + 1) int64."""
        path = self._folder / f"language-{VOCABULARY}.json"
        if not path.is_file():
            queries, rest = debian.split(debian.packages(self._folder))
            train, test = [[package.description for package in some] for some in (rest, queries[:TESTED])]
            path.write_text(json.dumps(_encoded(train, test)))
        train_ids, test_ids = json.loads(path.read_text())
        return _windows(train_ids), _windows(test_ids)


def _encoded(train: list[str], test: list[str]) -> list[list[int]]:
    """Return the ids of both texts, in pieces of words that are learnt from the first (byte-pair encoding)."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(train, VOCABULARY, show_progress=False)
    return [tokenizer.encode(SEPARATOR.join(texts)).ids for texts in (train, test)]


def _windows(ids: list[int]) -> torch.Tensor:
    count = (len(ids) - 1) // WINDOW
    return torch.tensor(ids[: count * WINDOW + 1]).unfold(0, WINDOW + 1, WINDOW)
