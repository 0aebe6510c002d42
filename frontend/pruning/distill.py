"""Distillation: a pruned model learns to do what the dense one does, with what is pruned held at zero."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from tvm_balanced.core.files import new_file
from tvm_balanced.core.validation import check_count, require
from tvm_balanced.errors import InputError, ModelError, first_line
from tvm_balanced.frontend.inference import eval_mode, float_tensors, inference
from tvm_balanced.frontend.pruning.blocks import chain_of_blocks
from tvm_balanced.frontend.pruning.calibration import Batch, call, moved
from tvm_balanced.frontend.pruning.held_masks import HeldMasks
from tvm_balanced.frontend.pruning.weights import prunable_weights

WARMUP = 20  # steps in which the learning rate rises
OUTPUTS = 5.0  # weight of the outputs beside the mean over hidden states
LARGEST_GRADIENT = 1.0  # norm over all parameters
SAVE_EVERY = 60.0  # seconds
FORMAT = 1
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Distillation:
    """What `distill` did: steps and seconds of all calls together, and the mean loss of this call's first and last steps."""

    steps: int
    seconds: float
    first_loss: float
    last_loss: float

    def __str__(self) -> str:
        return f"{self.steps} steps in {self.seconds:.0f} s: loss {self.first_loss:.4f} to {self.last_loss:.4f}"


def distill(
    student: nn.Module,
    teacher: nn.Module,
    batches: Iterable[Batch],
    minutes: float = 10.0,
    steps: int | None = None,
    learning_rate: float = 3e-4,
    checkpoint: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    precision: str = "float32",
) -> Distillation:
    """Train a pruned model in place to give the teacher's hidden states and outputs; what is zero in its weights stays zero.

    Hidden states are the outputs of blocks that follow each other, such as the layers of a transformer, where both models have
    such blocks by the same names. Errors are relative to the variance of what the teacher gives. Tokens whose attention_mask is 0
    do not count. To prune further, prune between two calls: 8:16, distill, 4:16, distill.

    Parameters
    ----------
    student, teacher : torch.nn.Module
        Called with the same batches, in eval mode, so without dropout; the teacher is not changed.
    batches : iterable
        Batches as for `prune`'s calibration, of any kind that can be gone through again and again.
    minutes : float
        The budget, of all calls with one checkpoint together; the learning rate falls to 0 along a cosine over it.
    steps : int, optional
        A budget of steps instead, whose result does not depend on how fast the machine is.
    learning_rate : float
        Of AdamW, at most.
    checkpoint : path, optional
        Written every minute and at the end, also after Ctrl-C; if it is there, the call goes on from it.
    progress : callable, optional
        Gets a line of text now and then.
    precision : str
        "float32", or "bfloat16" to multiply matrices in it (torch's autocast; weights stay what they are). MiniLM's steps take
        0.7x the time on a CPU with AVX512-BF16.

    Raises
    ------
    InputError
        If an argument has the wrong type, there are no batches, or the checkpoint is another's or cannot be written.
    ModelError
        If the outputs of the two models differ in number or shape, or the loss becomes NaN.
    """
    require("student", student, nn.Module, "a torch.nn.Module")
    require("teacher", teacher, nn.Module, "a torch.nn.Module")
    require("batches", batches, Iterable, "a list of batches, or a DataLoader")
    require("minutes", minutes, (int, float), "a number")
    if not minutes >= 0:
        raise InputError(f"minutes is {minutes}; give 0 or more")
    if steps is not None:
        check_count("steps", steps)
    if precision not in PRECISIONS:
        raise InputError(f'precision is "{precision}"; give one of {", ".join(PRECISIONS)}')
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and not path.parent.is_dir():
        raise _unwritable(path, f"{path.parent} is no folder")
    run = _Run(student, teacher, minutes * 60, steps, learning_rate, path, PRECISIONS[precision])
    return run(batches, progress or (lambda _: None))


def _unwritable(checkpoint: Path, why: str) -> InputError:
    return InputError(f"checkpoint {checkpoint} cannot be written ({why}); give another path")


class _Run:
    """One call of `distill`."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        seconds: float,
        steps: int | None,
        rate: float,
        checkpoint: Path | None,
        dtype: torch.dtype | None,
    ) -> None:
        self._student, self._teacher, self._dtype = student, teacher, dtype
        self._seconds, self._steps, self._rate, self._checkpoint = seconds, steps, rate, checkpoint
        self._masks = HeldMasks.of_zeros(student)
        self._parameters = [p for p in student.parameters() if p.is_floating_point()]
        # Fused: 0.02 s instead of 0.13 for MiniLM's 22 million parameters.
        self._optimizer = torch.optim.AdamW(self._parameters, lr=rate, weight_decay=0.0, fused=True)
        self._step, self._used, self._losses = 0, 0.0, list[float]()
        if checkpoint is not None and checkpoint.is_file():
            self._load(checkpoint)

    def __call__(self, batches: Iterable[Batch], progress: Callable[[str], None]) -> Distillation:
        device = self._parameters[0].device
        started, before, saved = time.monotonic(), self._used, time.monotonic()
        hidden = None
        with inference(self._teacher), _trainable(self._student):
            try:
                for batch in _again_and_again(batches, self._step):
                    if self._is_over():
                        break
                    batch = moved(batch, device)
                    hidden = hidden or _Hidden.of(self._student, self._teacher, batch, self._dtype)
                    self._train(batch, hidden)
                    self._used = before + time.monotonic() - started
                    if self._step % 10 == 0:
                        progress(f"{self._at()}, loss {self._losses[-1]:.4f}")
                    if time.monotonic() - saved > SAVE_EVERY:
                        self._save()
                        saved = time.monotonic()
            finally:  # also after Ctrl-C
                self._save()
        few = max(1, min(10, len(self._losses) // 2))
        first, last = (sum(part) / max(1, len(part)) for part in (self._losses[:few], self._losses[-few:]))
        return Distillation(self._step, self._used, first, last)

    def _way(self) -> float:
        """How much of the budget is used, from 0 to 1."""
        return self._step / self._steps if self._steps is not None else self._used / max(self._seconds, 1e-9)

    def _at(self) -> str:
        if self._steps is not None:
            return f"step {self._step} of {self._steps}"
        return f"{self._used:.0f} of {self._seconds:.0f} s, step {self._step}"

    def _is_over(self) -> bool:
        return self._step >= self._steps if self._steps is not None else self._used >= self._seconds

    def _train(self, batch: Batch, hidden: "_Hidden") -> None:
        with torch.enable_grad():
            loss = hidden.loss(batch)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        if not math.isfinite(float(loss)):
            raise ModelError(f"the loss of step {self._step} is {float(loss)}; give a smaller learning_rate")
        torch.nn.utils.clip_grad_norm_(self._parameters, LARGEST_GRADIENT)
        rate = self._rate * min(1.0, (self._step + 1) / WARMUP) * (1 + math.cos(math.pi * min(1.0, self._way()))) / 2
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._masks.apply()
        self._step += 1
        self._losses.append(float(loss))

    def _save(self) -> None:
        if self._checkpoint is None:
            return
        state = {
            "format": FORMAT,
            "student": self._student.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "masks": self._masks.state_dict(),
            "step": self._step,
            "seconds": self._used,
        }
        try:
            with new_file(self._checkpoint) as written:
                torch.save(state, written)
        except (OSError, RuntimeError) as error:  # torch's writer of zip files raises the latter
            raise _unwritable(self._checkpoint, first_line(error)) from None

    def _load(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True)
            if state["format"] != FORMAT:
                raise KeyError("format")
            self._student.load_state_dict(state["student"])
            self._optimizer.load_state_dict(state["optimizer"])
        except Exception as error:  # whatever a file may hold
            raise InputError(
                f"checkpoint {path} is no distillation of this model ({type(error).__name__}); delete it or give another path"
            ) from None
        weights = {weight.name: weight for weight in prunable_weights(self._student, embeddings=True)}
        self._masks.load_state_dict(state["masks"], weights)
        self._masks.apply()
        self._step, self._used = int(state["step"]), float(state["seconds"])


class _Hidden:
    """Calls both models and compares what they give, hidden states too."""

    def __init__(
        self,
        models: tuple[nn.Module, nn.Module],
        blocks: tuple[list[nn.Module], list[nn.Module]],
        dtype: torch.dtype | None,
    ) -> None:
        self._models, self._blocks, self._dtype = models, blocks, dtype

    @classmethod
    def of(cls, student: nn.Module, teacher: nn.Module, batch: Batch, dtype: torch.dtype | None) -> "_Hidden":
        """Find the blocks that the two models have in common, from a call with a batch."""
        weights = list(prunable_weights(student))
        with inference(student), chain_of_blocks(student, weights) as chains:
            call(student, batch)
            chains.end()
        names = {id(module): name for name, module in student.named_modules()}
        of_teacher = dict(teacher.named_modules())
        chain = [block for block in chains.longest() if names[id(block)] in of_teacher]
        return cls((student, teacher), (chain, [of_teacher[names[id(block)]] for block in chain]), dtype)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the mean relative error of hidden states plus OUTPUTS times that of the outputs."""
        student, teacher = self._models
        with torch.no_grad(), self._autocast(batch), _outputs_of(self._blocks[1]) as wanted:
            target = float_tensors(call(teacher, batch))
        with self._autocast(batch), _outputs_of(self._blocks[0]) as got:
            output = float_tensors(call(student, batch))
        if [t.shape for t in output] != [t.shape for t in target] or not output:
            raise ModelError("the outputs of student and teacher differ in number or shape; give a teacher of the same kind")
        mask = _attention_mask(student, batch)
        # The last block's output is often the model's own, which counts among the outputs.
        pairs = [(a, b) for a, b in zip(got, wanted, strict=True) if a.shape == b.shape]
        hidden = [_relative(a, b, mask) for a, b in pairs]
        outputs = [_relative(a, b, mask) for a, b in zip(output, target, strict=True)]
        loss = OUTPUTS * torch.stack(outputs).mean()
        return loss + torch.stack(hidden).mean() if hidden else loss

    def _autocast(self, batch: Batch) -> torch.autocast:
        device = next(leaf.device.type for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor))
        return torch.autocast(device, self._dtype, enabled=self._dtype is not None)


def _relative(output: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the mean squared difference over the variance of the target, of tokens whose mask is not 0."""
    output, target = output.float(), target.float()
    if mask is not None and output.dim() > 2 and output.shape[: mask.dim()] == mask.shape:
        output, target = output[mask], target[mask]
    return (output - target).square().mean() / (target.var(unbiased=False) + 1e-6)


def _attention_mask(model: nn.Module, batch: Batch) -> torch.Tensor | None:
    """Return the argument attention_mask (batch, tokens) of a call as bool, None if it has none."""
    arguments: Mapping[str, Any]
    if isinstance(batch, Mapping):
        arguments = batch
    else:
        values = batch if isinstance(batch, tuple) else (batch,)
        arguments = dict(zip(signature(model.forward).parameters, values, strict=False))
    mask = arguments.get("attention_mask")
    return mask != 0 if isinstance(mask, torch.Tensor) and mask.dim() == 2 else None


@contextmanager
def _outputs_of(blocks: list[nn.Module]) -> Iterator[list[torch.Tensor]]:
    """Collect the first tensor that each block returns."""
    outputs: list[torch.Tensor] = []
    handles = [block.register_forward_hook(lambda _m, _i, out: outputs.append(float_tensors(out)[0])) for block in blocks]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _trainable(model: nn.Module) -> Iterator[None]:
    """Train all parameters of a model in eval mode; afterwards each is as it was."""
    before = [(p, p.requires_grad) for p in model.parameters()]
    try:
        for parameter, _ in before:
            parameter.requires_grad_(parameter.is_floating_point())
        with eval_mode(model):
            yield
    finally:
        for parameter, needed in before:
            parameter.requires_grad_(needed)
            parameter.grad = None


def _again_and_again(batches: Iterable[Batch], start: int) -> Iterator[Batch]:
    """Yield batches without end, the first `start` left out, as if a run had not been interrupted."""
    at = 0
    for rounds in count():
        before = at
        for batch in batches:
            at += 1
            if at > start:
                yield batch
        if at == before:
            raise InputError(
                "batches has no batch; give at least one"
                if rounds == 0
                else "batches cannot be gone through a second time; give a list or a DataLoader"
            )
