"""ONNX models of other tools beside ONNX Runtime: what torch exports of four kinds of models, torchvision's ResNets, silero-vad.

    pip install onnxruntime onnxscript && pip install --no-deps torchvision silero-vad
    python -m benchmarks.onnx_models [NAME ...]

Prints for each the largest difference to ONNX Runtime, relative to the largest output, or the sentence that refuses it; of a
model whose package is not there or does not fit torch, what to install.
"""

import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.errors import first_line

RATE, SAMPLES = 16_000, 512  # of a call of silero-vad
SILERO = ("silero_vad", "silero_vad_16k_op15", "silero_vad_op18_ifless")


class Steps(nn.Module):
    """An LSTM and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(64, 64, batch_first=True), nn.Linear(64, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, steps, 16) of x (batch, steps, 64)."""
        return self.out(self.lstm(x)[0])


def images() -> nn.Module:
    """Two convolutions with a norm and a pool."""
    parts = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, stride=2)]
    return nn.Sequential(*parts, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def encoder() -> nn.Module:
    """Two layers of a transformer."""
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2, enable_nested_tensor=False)


class MissingError(Exception):
    """A package that a model comes from, in one sentence."""


def package(name: str, advice: str) -> Any:
    """Import a package; raises MissingError, with what to do, where it is not there or not of a build that loads."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # a build for another torch raises RuntimeError, OSError or AttributeError
        raise MissingError(f"not run: {name} cannot be imported ({first_line(error)}); {advice}") from error


def resnet(name: str) -> nn.Module:
    """A ResNet of torchvision."""
    models = package("torchvision.models", "pip install --no-deps torchvision, of the build for CPUs that fits torch")
    model: nn.Module = getattr(models, name)()
    return model


EXPORTED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 64)), (4, 128)),
    "cnn": (images, (2, 3, 32, 32)),
    "encoder": (encoder, (2, 16, 64)),
    "lstm": (Steps, (2, 12, 64)),
    "resnet18": (lambda: resnet("resnet18"), (1, 3, 64, 64)),
    "resnet50": (lambda: resnet("resnet50"), (1, 3, 64, 64)),
}


def exported(name: str, folder: Path, dynamo: bool) -> tuple[Path, list[Any]]:
    """Write a model by one of torch's two exporters; return its file and an example."""
    make, shape = EXPORTED[name]
    if dynamo:
        package("onnxscript", "pip install onnxscript")
    torch.manual_seed(0)
    x, path = torch.randn(shape), folder / f"{name}{'_dynamo' if dynamo else ''}.onnx"
    torch.onnx.export(make().eval(), (x,), str(path), dynamo=dynamo, **({} if dynamo else {"opset_version": 17}))
    return path, [x.numpy()]


def silero(name: str) -> tuple[Path, list[Any]]:
    """Return a file of silero-vad and an example, in the file's own order; a plain number is fixed."""
    data = Path(str(package("silero_vad", "pip install --no-deps silero-vad").__file__)).parent / "data"
    rng = np.random.default_rng(0)
    x, state = (rng.standard_normal(shape, np.float32) / 10 for shape in ((1, SAMPLES), (2, 1, 128)))
    return data / f"{name}.onnx", [x, RATE, state] if "ifless" in name else [x, state, RATE]


def cases(names: Sequence[str], folder: Path) -> Iterator[tuple[str, Callable[[], tuple[Path, list[Any]]]]]:
    """Yield names, and what gives the file and the examples of each."""
    for name in [name for name in EXPORTED if not names or name in names]:
        yield f"{name}_dynamo", partial(exported, name, folder, True)
        yield name, partial(exported, name, folder, False)
    if not names or "silero" in names:
        for name in SILERO:
            yield name, partial(silero, name)


def difference(path: Path, args: Sequence[Any]) -> float:
    """Return the largest difference of a compiled model to ONNX Runtime, relative to each output's largest value or 1."""
    session = package("onnxruntime", "pip install onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {spec.name: np.asarray(value) for spec, value in zip(session.get_inputs(), args, strict=True)}
    got = tb.compile(str(path), args, race=False, logs=False)(*args)
    pairs = zip(session.run(None, feed), got if isinstance(got, tuple) else (got,), strict=True)
    return max(float(np.abs(a - b).max() / max(1, np.abs(a).max())) for a, b in pairs)


def main(names: Sequence[str]) -> None:
    """Print a line for each model."""
    with tempfile.TemporaryDirectory() as folder:
        for name, case in cases(names, Path(folder)):
            try:
                said = f"{difference(*case()):.1e}"
            except (tb.TvmBalancedError, MissingError) as error:
                said = str(error)
            print(f"{name:24} {said}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
