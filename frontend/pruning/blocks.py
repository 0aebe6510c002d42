"""Blocks that follow each other, such as the layers of a transformer: found while a model runs, skipped once they are done."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from tvm_balanced.frontend.pruning.weights import PrunableWeight


class Reached(BaseException):
    """Ends a call when the output of a block is known."""


class Chains:
    """Watches the children of every list of blocks: which are called once each, in order, each with the output of the last."""

    def __init__(self, candidates: Sequence[Sequence[nn.Module]]) -> None:
        self._candidates = candidates
        self._is_chain = [True] * len(candidates)
        self._called = [0] * len(candidates)
        self._outputs: list[list[torch.Tensor]] = [[] for _ in candidates]

    def end(self) -> None:
        """A call has ended."""
        for at, blocks in enumerate(self._candidates):
            self._is_chain[at] &= self._called[at] == len(blocks)
        self._called = [0] * len(self._candidates)
        self._outputs = [[] for _ in self._candidates]

    def longest(self) -> list[nn.Module]:
        """Return the first chain, in the order of the candidates; empty if there is none."""
        return next((list(b) for b, good in zip(self._candidates, self._is_chain, strict=True) if good), [])

    def before(self, at: int, place: int, inputs: Any) -> None:
        """A block is called."""
        last = self._outputs[at]
        follows = place == 0 or any(i is o for i in tree_leaves(inputs) for o in last if isinstance(i, torch.Tensor))
        self._is_chain[at] &= follows and self._called[at] == place
        self._called[at] += 1

    def after(self, at: int, outputs: Any) -> None:
        """A block has returned."""
        self._outputs[at] = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


@contextmanager
def chain_of_blocks(model: nn.Module, weights: Sequence[PrunableWeight]) -> Iterator[Chains]:
    """Watch a model's lists of blocks while the context lasts, those with the most of `weights` first."""
    holders = {id(weight.module) for weight in weights}

    def held(module: nn.Module) -> int:
        return sum(id(inner) in holders for inner in module.modules())

    lists = [list(m) for m in model.modules() if isinstance(m, (nn.ModuleList, nn.Sequential)) and sum(map(held, m)) > 1]
    lists = [blocks for blocks in lists if len(blocks) > 1 and len(set(map(id, blocks))) == len(blocks)]
    chains = Chains(sorted(lists, key=lambda blocks: -sum(map(held, blocks))))
    handles = []
    for at, blocks in enumerate(chains._candidates):
        for place, block in enumerate(blocks):
            handles.append(block.register_forward_pre_hook(_before(chains, at, place), with_kwargs=True))
            handles.append(block.register_forward_hook(lambda _m, _i, outputs, at=at: chains.after(at, outputs)))
    try:
        yield chains
    finally:
        for handle in handles:
            handle.remove()


def _before(chains: Chains, at: int, place: int) -> Callable[..., None]:
    return lambda _module, args, kwargs: chains.before(at, place, (args, kwargs))


class BlockReplay:
    """Skips the blocks of a chain that are done: instead of computing them, the output of the last of them is returned.

    The outputs of one block are kept, for every batch.
    """

    def __init__(self, chain: Sequence[nn.Module]) -> None:
        self._chain = chain
        self._done = 0  # blocks before this one are skipped
        self._outputs: list[Any] = []
        self._batch = 0
        self._patched: list[tuple[nn.Module, Any]] = []

    def __enter__(self) -> "BlockReplay":
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def begin(self, batch: int) -> None:
        """A call with a batch, by its number, begins."""
        self._batch = batch

    def enter(self, block: int | None, run: Callable[..., None]) -> None:
        """Skip all blocks before `block` from now on, or none if it is None.

        `run(self)` calls the model with every batch.
        """
        if block is None or block < self._done:
            self._restore()
            return
        if self._done and not self._patched:
            self._skip()
        while self._done < block:
            self._advance(run)

    def _advance(self, run: Callable[..., None]) -> None:
        """Compute the outputs of the first block that is not skipped, and skip it."""
        outputs: list[Any] = []

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs.append(output)
            raise Reached

        handle = self._chain[self._done].register_forward_hook(keep)
        try:
            run(self)
        finally:
            handle.remove()
        self._restore()
        self._outputs = outputs
        self._done += 1
        self._skip()

    def _skip(self) -> None:
        for at, block in enumerate(self._chain[: self._done]):
            self._patched.append((block, vars(block).get("forward")))  # hooks of other libraries may be there
            # The next block gets a copy, because what lies between may write into it.
            block.forward = self._copied if at == self._done - 1 else self._kept

    def _kept(self, *_: Any, **__: Any) -> Any:
        return self._outputs[self._batch]

    def _copied(self, *_: Any, **__: Any) -> Any:
        return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, self._outputs[self._batch])

    def _restore(self) -> None:
        for block, forward in self._patched:
            del block.forward
            if forward is not None:
                block.forward = forward
        self._patched = []
