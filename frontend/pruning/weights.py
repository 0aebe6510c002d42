"""The weights of a module that pruning takes: where each is, and how it is seen as a matrix (N, K).

K is what the weight is multiplied along, so that a block of the pattern lies in a row.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from tvm_balanced.core.weight_matrix import from_weight_matrix, weight_matrix
from tvm_balanced.frontend.pruning.computed import ComputedWeight, computed_weights, kind_of


@dataclass(frozen=True)
class View:
    """How a parameter is seen as a stack (E, N, K) of matrices; E is 1 but for experts.

    `stack` is a view of the parameter but for convolutions, whose taps may lie in another order in memory.
    """

    name: str
    stack: Callable[[torch.Tensor], torch.Tensor]
    back: Callable[[torch.Tensor, torch.Size], torch.Tensor]
    is_experts: bool = False


# y = x W^T, the way of nn.Linear, recurrent layers and nn.MultiheadAttention
ROWS = View("(N, K)", lambda p: p[None], lambda m, shape: m.reshape(shape))
# y = x W, the way of transformers' Conv1D
COLUMNS = View("(K, N)", lambda p: p.T[None], lambda m, shape: m.reshape(shape[1], shape[0]).T)
TAPS = View("(N, K) of taps", lambda p: weight_matrix(p)[None], lambda m, shape: from_weight_matrix(m, tuple(shape)))
# nn.Bilinear's weight (out, in1, in2) as out matrices that the second input is multiplied by
BILINEAR = View("(out, in1, in2)", lambda p: p, lambda m, shape: m.reshape(shape))
# experts, a matrix each: y = x W[e]^T and y = x W[e]
EXPERTS = View("(E, N, K)", lambda p: p, lambda m, shape: m.reshape(shape), True)
EXPERTS_TRANSPOSED = View(
    "(E, K, N)",
    lambda p: p.transpose(1, 2),
    lambda m, shape: m.reshape(shape[0], shape[2], shape[1]).transpose(1, 2),
    True,
)


@dataclass(eq=False)
class PrunableWeight:
    """One weight.

    Parameters
    ----------
    name : str
        Of the layer, as `named_modules` has it, if its only weight is called "weight"; else of the parameter.
    layer : str
        Name of the layer's module; empty for the model itself.
    module, attribute
        Where the parameter is: `getattr(module, attribute)`.
    view : View
        How the parameter is seen as matrices.
    """

    name: str
    layer: str
    module: nn.Module
    attribute: str
    view: View

    @property
    def parameter(self) -> torch.Tensor:
        """The parameter, in its own shape."""
        parameter: torch.Tensor = getattr(self.module, self.attribute)
        return parameter

    def stack(self) -> torch.Tensor:
        """Return the parameter as (E, N, K)."""
        return self.view.stack(self.parameter.detach())

    def matrix(self) -> torch.Tensor:
        """Return the parameter as (E * N, K), a view where one exists."""
        stack = self.stack()
        return stack.reshape(-1, stack.shape[2])

    def back(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return a matrix (E * N, K), of any dtype, in the shape of the parameter."""
        return self.view.back(matrix, self.parameter.shape)

    def assign(self, matrix: torch.Tensor) -> None:
        """Write a matrix (E * N, K) into the parameter, cast to its dtype."""
        with torch.no_grad():
            self.parameter.copy_(self.back(matrix))


def prunable_weights(
    model: nn.Module, include: Sequence[str] = ("*",), exclude: Sequence[str] = (), embeddings: bool = False
) -> Iterator[PrunableWeight]:
    """Yield the weights that pruning takes, in the order of `named_modules`; none that is computed from other parameters.

    Parameters
    ----------
    include, exclude : sequences of str
        Names of layers or parameters, with * and ? as in a shell. Parameters (E, ., .) of a module that does not call them
        experts must be named.
    embeddings : bool
        Whether tables of embeddings are taken, too.
    """
    return (weight for weight, computed in _weights(model, include, exclude, embeddings) if computed is None)


def weights_to_make_plain(
    model: nn.Module, include: Sequence[str] = ("*",), exclude: Sequence[str] = (), embeddings: bool = False
) -> Iterator[tuple[PrunableWeight, ComputedWeight]]:
    """Yield the weights that pruning would take if they were not computed from other parameters, with what computes each;
    parameters as for `prunable_weights`.
    """
    found = _weights(model, include, exclude, embeddings)
    return ((weight, computed) for weight, computed in found if computed is not None)


def _weights(
    model: nn.Module, include: Sequence[str], exclude: Sequence[str], embeddings: bool
) -> Iterator[tuple[PrunableWeight, ComputedWeight | None]]:
    """Yield the weights of layers that are pruned, and what computes each; parameters as for `prunable_weights`."""

    def wanted(*names: str) -> bool:
        return any(fnmatchcase(n, p) for n in names for p in include) and not any(
            fnmatchcase(n, p) for n in names for p in exclude
        )

    asked_for = [pattern for pattern in include if pattern.strip("*")]
    for layer, module in model.named_modules():
        computed = computed_weights(module)
        for attribute, view in _views(module, embeddings):
            alone = attribute == "weight"
            name = (layer or kind_of(module).__name__) if alone else f"{layer}.{attribute}".lstrip(".")
            if getattr(module, attribute, None) is None or not wanted(layer, name):
                continue
            if view.is_experts and not _says_expert(layer, module) and not any(fnmatchcase(name, p) for p in asked_for):
                continue  # it may be a table of biases
            yield PrunableWeight(name, layer, module, attribute, view), computed.get(attribute)


def _views(module: nn.Module, embeddings: bool) -> Iterator[tuple[str, View]]:
    """Yield (attribute, view) of each weight that a module itself holds."""
    if isinstance(module, nn.Linear) or (embeddings and isinstance(module, (nn.Embedding, nn.EmbeddingBag))):
        yield "weight", ROWS
    elif is_transformers_conv1d(module):
        yield "weight", COLUMNS
    elif isinstance(module, (nn.Conv1d, nn.Conv2d)) and not _is_depthwise(module):
        yield "weight", TAPS
    elif isinstance(module, nn.Bilinear):
        yield "weight", BILINEAR
    elif isinstance(module, nn.MultiheadAttention):
        for attribute in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            yield attribute, ROWS
    elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        yield from ((attribute, ROWS) for attribute in own_weights(module) if attribute.startswith("weight_"))
    elif not kind_of(module).__module__.startswith("torch.nn."):
        yield from _experts(module)


def _experts(module: nn.Module) -> Iterator[tuple[str, View]]:
    """Yield the parameters (E, ., .) of a module of one's own: a matrix for each expert.

    `is_transposed` is what transformers' experts say. Without it, the order is that of nn.Linear, unless a call with
    calibration data shows the other.
    """
    view = EXPERTS_TRANSPOSED if getattr(module, "is_transposed", False) else EXPERTS
    for attribute, parameter in own_weights(module).items():
        if parameter.dim() == 3 and parameter.shape[0] > 1 and min(parameter.shape[1:]) > 1 and parameter.is_floating_point():
            yield attribute, view


def _says_expert(layer: str, module: nn.Module) -> bool:
    """Whether a module with parameters (E, ., .) calls them experts."""
    words = f"{layer} {kind_of(module).__name__}".lower()
    return "expert" in words or "moe" in words or hasattr(module, "num_experts") or hasattr(module, "num_local_experts")


def _is_depthwise(module: Any) -> bool:
    """Whether each channel is filtered by itself: no product of matrices."""
    return bool(module.groups == module.in_channels and module.groups > 1)


def own_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return a module's own parameters by name: what it computes itself stands in place of what that is computed from."""
    computed = computed_weights(module)
    sources = {source for weight in computed.values() for source in weight.sources}
    own = {name: parameter for name, parameter in module.named_parameters(recurse=False) if name not in sources}
    return {**own, **{name: getattr(module, name) for name in computed}}


def is_transformers_conv1d(module: nn.Module) -> bool:
    """Whether a module is the dense layer of GPT-2 in transformers, which need not be installed. It
    is no convolution, despite its name.
    """
    kind = kind_of(module)
    return f"{kind.__module__}.{kind.__name__}" == "transformers.pytorch_utils.Conv1D"


def distinct(weights: Iterable[PrunableWeight]) -> Iterator[PrunableWeight]:
    """Yield the weights, each tensor once."""
    seen = set()
    for weight in weights:
        key = identity(weight.parameter)
        if key not in seen:
            seen.add(key)
            yield weight


def identity(parameter: torch.Tensor) -> tuple[bool, int]:
    """Return a key that parameters of the same memory have in common; one without elements has no memory."""
    return (True, parameter.data_ptr()) if parameter.numel() else (False, id(parameter))


def names_by_address(model: nn.Module) -> dict[int, list[str]]:
    """Return all names of each parameter, by the address of its first byte."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.numel():
            names.setdefault(parameter.data_ptr(), []).append(name)
    return names
