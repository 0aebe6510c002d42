"""Weights that a module computes from other parameters before each call: by weight norm, by a mask, by any parametrization.

There is nothing in them to prune: what is written to such a weight is lost in the next call. Once made plain, they are as others.
"""

from dataclasses import dataclass

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


@dataclass(frozen=True)
class ComputedWeight:
    """What computes a weight, and how to make it plain.

    Parameters
    ----------
    by : str
        What computes it, in the words of who put it there.
    remedy : str
        The call that makes it plain; `layer` in it is the module that has the weight.
    sources : tuple of str
        The module's own parameters that it is computed from; empty if a module below it holds them.
    """

    by: str
    remedy: str
    sources: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why it is not pruned, and what to do about it."""
        return f"{self.by} computes it; to prune it, first make it plain: {self.remedy}"


def computed_weights(module: nn.Module) -> dict[str, ComputedWeight]:
    """Return what computes each parameter of a module, itself alone, that is computed, by the parameter's name."""
    found = {}
    if parametrize.is_parametrized(module):
        for name, parts in module.parametrizations.items():  # type: ignore[union-attr, operator]
            by = " and ".join(type(part).__name__.lstrip("_") for part in parts)
            found[name] = ComputedWeight(by, f'torch.nn.utils.parametrize.remove_parametrizations(layer, "{name}")')
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod):
            name = hook._tensor_name
            by, remedy = "a mask of torch.nn.utils.prune", f'torch.nn.utils.prune.remove(layer, "{name}")'
            found[name] = ComputedWeight(by, remedy, (f"{name}_orig",))
        elif isinstance(hook, WeightNorm):
            remedy = f'torch.nn.utils.remove_weight_norm(layer, "{hook.name}")'
            found[hook.name] = ComputedWeight("WeightNorm", remedy, (f"{hook.name}_g", f"{hook.name}_v"))
        elif isinstance(hook, SpectralNorm):
            remedy = f'torch.nn.utils.remove_spectral_norm(layer, "{hook.name}")'
            found[hook.name] = ComputedWeight("SpectralNorm", remedy, (f"{hook.name}_orig",))
    return found


def kind_of(module: nn.Module) -> type[nn.Module]:
    """Return the class of a module; of one with parametrizations, the class that it had before."""
    kind: type[nn.Module] = parametrize.type_before_parametrizations(module)
    return kind
