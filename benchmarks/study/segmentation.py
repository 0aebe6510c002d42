"""A bidirectional LSTM that finds where words begin, in text without spaces: the share of wrong decisions."""

import string
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from benchmarks.study import debian
from benchmarks.study.training import shuffled

WIDTH = 200  # blocks of 25, 50 and 100 elements divide it
WINDOW = 80  # letters
BATCH = 16  # windows
TESTED = 500  # held-out descriptions


class Tagger(nn.Module):
    """Letters (batch, letters) int64, 0 to 25 --> logits (batch, letters), above 0 where a word begins."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(26, WIDTH)
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True, bidirectional=True)
        self.decoder = nn.Linear(2 * WIDTH, 1)

    def forward(self, letters: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.decoder(self.lstm(self.embedding(letters))[0])[..., 0]


class Segmentation:
    """The task, on Debian's package descriptions in lower case, of which nothing but letters and spaces is left."""

    name = "segmentation"
    metric = "errors in %"
    include = ("lstm*",)
    dense_steps = 1500
    tune_steps = 150
    rate = 3e-3

    def __init__(self, folder: Path = debian.FOLDER) -> None:
        self._folder = folder

    def model(self) -> nn.Module:
        """Return a new model."""
        return Tagger()

    def batches(self, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield letters (BATCH, WINDOW) int64 and whether a word begins at each, float32."""
        letters, begins = self._data[0]
        for some in shuffled(len(letters), BATCH, torch.Generator().manual_seed(seed)):
            yield letters[some], begins[some]

    def loss(self, model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return the mean cross entropy of the decisions."""
        return nn.functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1])

    def measure(self, model: nn.Module) -> float:
        """Return the share of wrong decisions in percent."""
        letters, begins = self._data[1]
        found = torch.cat([model(part) > 0 for part in letters.split(64)])
        return 100 * float((found != (begins > 0)).float().mean())

    @cached_property
    def _data(self) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        queries, rest = debian.split(debian.packages(self._folder))
        return tagged([p.description for p in rest]), tagged([p.description for p in queries[-TESTED:]])


def tagged(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return letters (windows, WINDOW) int64 and whether a word begins at each, float32; the rest of a window is left out."""
    allowed = str.maketrans({c: " " for c in map(chr, range(128)) if c not in string.ascii_lowercase})
    words = [word for text in texts for word in text.lower().translate(allowed).split() if word.isascii()]
    count = sum(map(len, words)) // WINDOW
    letters = torch.tensor(list("".join(words).encode()))[: count * WINDOW] - ord("a")
    begins = torch.zeros(sum(map(len, words)))
    begins[torch.tensor([0, *map(len, words[:-1])]).cumsum(0)] = 1
    return letters.reshape(count, WINDOW), begins[: count * WINDOW].reshape(count, WINDOW)
