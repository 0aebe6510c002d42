"""Run a model of torch with roundings drawn anew: how far its outputs move tells what rounding alone explains.

Monte Carlo arithmetic (Parker, 1997): each result of an operator is multiplied by 1 + a random number of the size of its rounding
error. On most inputs the outputs then move by little. They move by much where values cancel, where a norm divides by a
deviation of nearly 0, and where a tie decides a rank, and there another order of a sum does the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.tolerance import UNIT
from tvm_balanced.frontend.error_growth import MOVES
from tvm_balanced.frontend.inference import float_tensors
from tvm_balanced.frontend.input_domains import RANKING

# Units of float32 by which a result is off: a sum of 256 equal numbers, one after the other, is off by 30. Sums of half precision
# run in float32, so that its results are off by one unit.
UNITS = 64

Run = Callable[[Sequence[Array]], list[Array]]


def with_noise(run: Run) -> Callable[[Sequence[Array], int], list[Array]]:
    """Return what runs a model of torch, (inputs, seed) to outputs, with roundings that the seed draws."""

    def noisy(inputs: Sequence[Array], seed: int) -> list[Array]:
        with RoundingNoise(seed):
            return run(inputs)

    return noisy


class RoundingNoise(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within this context, each operator of torch rounds otherwise.

    A whole number stays as it is: sums and products of small ones are exact, and so are masks and one-hot vectors.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.supports_higher_order_operators = True  # a loop of torch's, whose results are rounded anew as a whole
        self.random = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an operator, and round its results anew; to one that ranks values, equal ones are made to differ."""
        if not isinstance(func, torch._ops.OpOverload):
            return pytree.tree_map_only(torch.Tensor, self.rounded, func(*args, **(kwargs or {})))
        name = func.overloadpacket.__name__
        if name in RANKING:
            ranked = 1 if name == "searchsorted" else 0
            args = tuple(self.parted(arg) if place == ranked else arg for place, arg in enumerate(args))
        result = func(*args, **(kwargs or {}))
        if name.removesuffix("_") in MOVES or func.is_view or not _has_tensor((args, kwargs)):
            return result
        written = [argument.alias_info.is_write for argument in func._schema.arguments if argument.alias_info]
        if any(written):
            for tensor in float_tensors(result):
                tensor.copy_(self.rounded(tensor))
            return result
        return pytree.tree_map_only(torch.Tensor, self.rounded, result)

    def rounded(self, exact: torch.Tensor) -> torch.Tensor:
        """Return a tensor whose numbers are off by a rounding each; one of integers as it is."""
        return torch.where(exact == exact.round(), exact, self.off(exact)) if exact.is_floating_point() else exact

    def parted(self, exact: Any) -> Any:
        """Return what is ranked with a rounding on whole numbers, too, and on zeros, so that equal ones differ."""
        if not isinstance(exact, torch.Tensor) or not exact.is_floating_point():
            return exact
        return self.off(torch.where(exact == 0, torch.finfo(exact.dtype).smallest_normal, exact))

    def off(self, exact: torch.Tensor) -> torch.Tensor:
        """Return floats that are off by a rounding each."""
        unit = UNIT.get(str(exact.dtype).removeprefix("torch."), UNIT["float32"])
        size = unit if unit > UNIT["float32"] else UNITS * unit
        wide = exact.double() if unit <= UNIT["float32"] else exact.float()
        noise = torch.randn(exact.shape, generator=self.random, dtype=wide.dtype)
        return (wide * (1 + size * noise)).to(exact.dtype)


def _has_tensor(arguments: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(arguments))
