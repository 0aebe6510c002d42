"""Runs a model on calibration data so that its weights can be pruned one after the other, in forward order.

What a layer gets depends on what was pruned before it, so each group of weights with one input needs calls of its own. A call
ends at the group. Where blocks follow each other, as in a transformer, a call starts at the block of the group: the outputs of
the block before it are kept, and the blocks up to there are not computed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from tvm_balanced.errors import InputError, first_line
from tvm_balanced.frontend.inference import inference
from tvm_balanced.frontend.pruning.blocks import BlockReplay, Reached, chain_of_blocks
from tvm_balanced.frontend.pruning.inputs import InputRecorder, Rows, written_out
from tvm_balanced.frontend.pruning.statistics import InputStatistics, joined
from tvm_balanced.frontend.pruning.weights import PrunableWeight

Batch = Any  # what the model is called with: a tensor, a tuple of arguments or a mapping of keyword arguments


@dataclass
class Group:
    """Weights that are used next to each other, such as those of query, key and value.

    `one_input` says that each is used once in a call, whole, and on the same x; `block` is their block's place in the chain.
    `is_reused` says that one of them is used again after weights of later groups.
    """

    weights: list[PrunableWeight] = field(default_factory=list)
    one_input: bool = True
    is_reused: bool = False
    block: int | None = None


class Calibration:
    """A model and its calibration data.

    Parameters
    ----------
    model : torch.nn.Module
    weights : sequence of PrunableWeight
        Those to prune; weights that are the same tensor only once.
    batches : iterable
        What the model is called with: a tensor, a tuple or list of arguments, or a mapping of keyword arguments. All are kept
        in memory, because they are needed again for each layer.

    Raises
    ------
    InputError
        If there is no batch, or the model fails on one.
    """

    def __init__(self, model: nn.Module, weights: Sequence[PrunableWeight], batches: Iterable[Batch]) -> None:
        self._model, self._weights = model, weights
        device = next((w.parameter.device for w in weights), torch.device("cpu"))
        self._batches = [moved(batch, device) for batch in batches]
        if not self._batches:
            raise InputError("calibration has no batches; give at least one, each what the model is called with")

    def groups(self, hessian: bool) -> Iterator[tuple[Group, Callable[[PrunableWeight], list[tuple[Rows, InputStatistics]]]]]:
        """Yield each group in forward order, and a function that gives the statistics of a weight's inputs, by its rows.

        The caller prunes the group's weights in place before it asks for the next one. Weights that no batch reaches are in no
        group.
        """
        with inference(self._model), written_out(self._model):
            plan, chain = self._observe()
            with BlockReplay(chain) as replay:
                for at, group in enumerate(plan):
                    replay.enter(group.block, self._run)
                    yield group, self._collect(plan, at, replay, hessian)

    def _observe(self) -> tuple[list[Group], list[nn.Module]]:
        """Return the groups in forward order and the chain of blocks, from one call with every batch."""
        order = _Order()
        with chain_of_blocks(self._model, self._weights) as chains, InputRecorder(self._weights, order.see):
            for number, batch in enumerate(self._batches):
                order.begin()
                self._call(number, batch)
                chains.end()
        chain = chains.longest()
        inside = {id(module): at for at, block in enumerate(chain) for module in block.modules()}
        for group in order.groups:
            places = {inside.get(id(weight.module)) for weight in group.weights}
            group.block = places.pop() if len(places) == 1 else None
        return order.groups, chain

    def _collect(
        self, plan: list[Group], at: int, replay: BlockReplay, hessian: bool
    ) -> Callable[[PrunableWeight], list[tuple[Rows, InputStatistics]]]:
        """Run all batches up to a group; return a function that gives the statistics of each of its weights."""
        group = plan[at]
        wanted = group.weights[:1] if group.one_input else group.weights
        later = [weight for other in plan[at + 1 :] for weight in other.weights] if not group.is_reused else []
        sums: dict[tuple[PrunableWeight, Rows], InputStatistics] = {}

        def see(weight: PrunableWeight, rows: Rows, x: torch.Tensor) -> None:
            if weight not in wanted:
                raise Reached
            if (weight, rows) not in sums:
                sums[weight, rows] = InputStatistics(x.shape[-1], hessian, x.device)
            sums[weight, rows].add(x)

        recorder = InputRecorder([*wanted, *later], see)
        self._run(replay, recorder)
        parts = {w: _by_rows({rows: s for (weight, rows), s in sums.items() if weight is w}) for w in wanted}
        return lambda weight: parts[wanted[0] if group.one_input else weight]

    def _run(self, replay: BlockReplay, recorder: InputRecorder | None = None) -> None:
        """Call the model with every batch, each call until all is known that was wanted from it."""
        with recorder or nullcontext():
            for number, batch in enumerate(self._batches):
                replay.begin(number)
                with suppress(Reached):
                    self._call(number, batch)

    def _call(self, number: int, batch: Batch) -> None:
        try:
            call(self._model, batch)
        except Exception as error:  # a model may raise anything
            raise InputError(
                f"the model failed on batch {number} of the calibration data with {type(error).__name__}: {first_line(error)}; "
                "give batches that are what the model is called with: a tensor, a tuple of arguments or a dict"
            ) from error


class _Order:
    """Sorts weights into groups by how they are used."""

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self._number: dict[PrunableWeight, int] = {}
        self.begin()

    def begin(self) -> None:
        """A new call begins."""
        self._newest = -1
        self._seen: set[PrunableWeight] = set()
        self._last: tuple[torch.Tensor, int] | None = None

    def see(self, weight: PrunableWeight, rows: Rows, x: torch.Tensor) -> None:
        """Note one use; the last x is kept, or another tensor could take its memory and seem to be the same."""
        same = self._last is not None and _is_same(*self._last, x)
        self._last = (x, x._version)
        if weight not in self._number:
            if not same or self._newest != len(self.groups) - 1:
                self.groups.append(Group())
            self.groups[-1].weights.append(weight)
            self._number[weight] = len(self.groups) - 1
        number = self._number[weight]
        group = self.groups[number]
        whole = rows == Rows(0, weight.matrix().shape[0])
        first = group.weights[0] is weight
        if weight in self._seen or not whole or not (first or same):
            group.one_input = False
        group.is_reused |= number < self._newest
        self._newest = max(self._newest, number)
        self._seen.add(weight)


def _is_same(a: torch.Tensor, version: int, b: torch.Tensor) -> bool:
    """Whether two tensors are the same memory, not written in between."""
    return (
        a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride() and a.dtype == b.dtype
    ) and b._version == version


def _by_rows(sums: Mapping[Rows, InputStatistics]) -> list[tuple[Rows, InputStatistics]]:
    """Return the statistics of rows that do not overlap: what is used whole here and in part there is cut."""
    bounds = sorted({bound for rows in sums for bound in rows})
    parts = []
    for start, stop in pairwise(bounds):
        covering = [s for rows, s in sums.items() if rows.start <= start and stop <= rows.stop]
        if covering:
            parts.append((Rows(start, stop), joined(covering)))
    return parts


def call(model: nn.Module, batch: Batch) -> Any:
    """Call a model with a batch: a tensor, a tuple or list of arguments, or a mapping of keyword arguments."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, (tuple, list)) else model(batch)


def moved(batch: Batch, device: torch.device) -> Batch:
    """Return a batch with its tensors on a device; raises InputError for what is no batch."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: _moved(value, device) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(_moved(value, device) for value in batch)
    raise InputError(
        f"a batch of the calibration data is {type(batch).__name__}; give what the model is called with: "
        "a tensor, a tuple of arguments or a dict"
    )


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value
