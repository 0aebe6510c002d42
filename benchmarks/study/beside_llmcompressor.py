"""Do SparseGPT and Wanda give what llmcompressor gives? `python -m benchmarks.study.beside_llmcompressor`.

The functions that llmcompressor's modifiers call for each layer, from a release of PyPI in a folder of its own, get the same
weights and inputs as ours: random ones, and those of a layer of MiniLM with texts of the study.
"""

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.frontend.pruning import sparsegpt, wanda
from tvm_balanced.frontend.pruning.statistics import DAMPING, InputStatistics

FOLDER = Path("build/llmcompressor")
RELEASE = ("llmcompressor==0.14.0.1", "loguru==0.7.3")  # the latter is all that the two files need besides torch and transformers
PATTERNS = ("2:4", "4:8", "4:16", "2:16")
PLACE = "llmcompressor/modifiers/pruning"


@dataclass(frozen=True)
class Agreement:
    """Of one layer, method and pattern: the share of equal masks, and the largest difference of weights where both keep one.

    The difference is relative to the largest weight.
    """

    layer: str
    method: str
    pattern: str
    masks: float
    difference: float

    def __str__(self) -> str:
        return (
            f"{self.layer:20} {self.method:10} {self.pattern:5} {self.masks:.4%} of the mask is equal, "
            f"weights differ by {self.difference:.1e} at most"
        )


def install(folder: Path = FOLDER) -> None:
    """Fetch the release into a folder, without what it depends on."""
    if not (folder / PLACE).is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={folder}", *RELEASE]
        subprocess.run(command, check=True)


def module_of(name: str, folder: Path = FOLDER) -> ModuleType:
    """Import one file of the release by its path: importing the package would need all that it depends on."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    spec = importlib.util.spec_from_file_location(Path(name).stem, folder / PLACE / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def theirs(method: str, layer: nn.Linear, x: torch.Tensor, pattern: BalancedPattern, folder: Path = FOLDER) -> torch.Tensor:
    """Return the weight (N, K) that llmcompressor makes of a layer with inputs x (M, K)."""
    dropped = pattern.block - pattern.nnz
    if method == "wanda":
        module = module_of("wanda/wanda_sparsify.py", folder)
        scalars, _ = module.accumulate_row_scalars(x, layer, module.make_empty_row_scalars(layer), 0)
        weight: torch.Tensor = module.sparsify_weight(layer, {layer: scalars}, 0.0, dropped, pattern.block)
        return weight
    module = module_of("sparsegpt/sgpt_sparsify.py", folder)
    hessian, _ = module.accumulate_hessian(x, layer, module.make_empty_hessian(layer), 0)
    _, weight = module.sparsify_weight(layer, {layer: hessian}, 0.0, dropped, pattern.block, sparsegpt.COLUMNS, DAMPING, False)
    return weight


def ours(method: str, layer: nn.Linear, x: torch.Tensor, pattern: BalancedPattern) -> torch.Tensor:
    """Return the weight (N, K) that we make of it."""
    inputs = InputStatistics(x.shape[1], hessian=method == "sparsegpt")
    inputs.add(x)
    prune_matrix = {"wanda": wanda.prune_matrix, "sparsegpt": sparsegpt.prune_matrix}[method]
    return prune_matrix(layer.weight.detach(), inputs, pattern)[0]


def compare(name: str, method: str, layer: nn.Linear, x: torch.Tensor, pattern: str, folder: Path = FOLDER) -> Agreement:
    """Prune a layer by both."""
    parsed = BalancedPattern.parse(pattern)
    with torch.no_grad():
        a, b = ours(method, layer, x, parsed), theirs(method, layer, x, parsed, folder)
        both = (a != 0) & (b != 0)
        difference = float((a - b)[both].abs().max() / layer.weight.abs().max())
    return Agreement(name, method, pattern, float(((a != 0) == (b != 0)).float().mean()), difference)


def random_layer(n: int, k: int) -> tuple[nn.Linear, torch.Tensor]:
    """Return a layer and inputs (2048, k) whose features are correlated."""
    torch.manual_seed(0)
    return nn.Linear(k, n), torch.randn(2048, k) @ (torch.eye(k) + 0.3 * torch.randn(k, k) / k**0.5)


def minilm_layer() -> tuple[nn.Linear, torch.Tensor]:
    """Return a layer of MiniLM, 1536 to 384, and its inputs on texts of the study."""
    from benchmarks.study import debian, retrieval
    from tvm_balanced.demo.minilm import sentence_encoder
    from tvm_balanced.demo.retrieval import batches

    model, _ = sentence_encoder()
    layer = model.get_submodule("model.encoder.layer.2.output.dense")
    assert isinstance(layer, nn.Linear)
    inputs: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _module, args: inputs.append(args[0].reshape(-1, args[0].shape[-1])))
    with torch.no_grad():
        for batch in batches(retrieval.texts_of(debian.split(debian.packages())[1][:96])):
            model(*batch)
    handle.remove()
    return layer, torch.cat(inputs)


def agreements(folder: Path = FOLDER, minilm: bool = True) -> Iterator[Agreement]:
    """Yield the comparison of each layer, method and pattern."""
    layers = {"random 256x384": random_layer(256, 384)} | ({"MiniLM 384x1536": minilm_layer()} if minilm else {})
    for name, (layer, x) in layers.items():
        for method in ("sparsegpt", "wanda"):
            for pattern in PATTERNS:
                yield compare(name, method, layer, x, pattern, folder)


def main() -> None:
    """Install the release and print the comparison."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    install()
    for agreement in agreements():
        print(agreement, flush=True)


if __name__ == "__main__":
    main()
