"""What weights are multiplied by while a model runs, found by where the operands lie in memory.

Hooks of modules would miss weights that no module's `forward` receives: those of nn.MultiheadAttention, recurrent layers and
experts. So the operators that a call ends in are watched, and an operand is a weight if it is a view of its memory.
"""

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tvm_balanced.frontend.pruning.weights import EXPERTS, EXPERTS_TRANSPOSED, PrunableWeight

aten = torch.ops.aten
# Operators with a product of matrices: where its left and its right operand are.
PRODUCTS = {aten.mm: (0, 1), aten.bmm: (0, 1), aten.addmm: (1, 2), aten.baddbmm: (1, 2), aten.mv: (0, 1), aten.addmv: (1, 2)}
SAMPLES_AT_ONCE = 8  # of a convolution's input: the patches of 3x3 taps are nine times as large as it


class Rows(NamedTuple):
    """Rows of a weight's matrix (E * N, K)."""

    start: int
    stop: int


See = Callable[[PrunableWeight, Rows, torch.Tensor], None]  # the last is x (M, K), what the rows are multiplied by


@dataclass
class _Place:
    """Bytes of memory that hold a weight, or a copy of it in another dtype (which `held` keeps alive)."""

    start: int
    stop: int
    weight: PrunableWeight
    held: torch.Tensor


class InputRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Calls `see` for each use of a weight, before it is computed.

    Parameters
    ----------
    weights : iterable of PrunableWeight
    see : callable
        Gets the weight, the rows that are used and x (M, K); it may raise to end the call.
    """

    def __init__(self, weights: Iterable[PrunableWeight], see: See) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._see = see
        self._places: list[_Place] = []
        for weight in weights:
            self._add(weight, weight.parameter.detach())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # in inference mode these are not taken apart before they come here
                taken_apart = func.decompose(*args, **kwargs)
            if taken_apart is not NotImplemented:
                return taken_apart
        packet = func.overloadpacket
        if packet in PRODUCTS:
            left, right = (args[i] for i in PRODUCTS[packet])
            self._product(left, right)
        elif packet is aten.convolution:
            self._convolution(*args)
        elif packet is aten._trilinear:
            self._bilinear(args[1], args[2])
        elif packet is getattr(aten, "_grouped_mm", None):
            self._grouped(args[0], args[1], args[2] if len(args) > 2 else kwargs.get("offs"))
        result = func(*args, **kwargs)
        if packet is aten._to_copy:  # autocast multiplies by copies
            self._alias(args[0], result)
        return result

    def _add(self, weight: PrunableWeight, held: torch.Tensor) -> None:
        start = held.data_ptr()
        bisect.insort(self._places, _Place(start, start + held.nbytes, weight, held), key=lambda place: place.start)

    def _alias(self, source: torch.Tensor, copy: torch.Tensor) -> None:
        place = self._place(source)
        if place is not None and source.nbytes == place.stop - place.start and source.stride() == copy.stride():
            self._add(place.weight, copy)

    def _place(self, operand: torch.Tensor) -> _Place | None:
        address = operand.data_ptr()
        at = bisect.bisect_right(self._places, address, key=lambda place: place.start) - 1
        return self._places[at] if at >= 0 and address < self._places[at].stop else None

    def _product(self, left: torch.Tensor, right: torch.Tensor) -> None:
        if right.dim() == 1:
            right = right[:, None]
        for weight, x in ((right, left), (left.mT, right.mT)):  # (..., K, N) and (..., M, K)
            place = self._place(weight)
            for e in range(weight.shape[0] if place is not None and weight.dim() == 3 else 1):
                one, rows_of_x = (weight[e], x[e]) if weight.dim() == 3 else (weight, x)
                self._use(place, one, rows_of_x)

    def _use(self, place: _Place | None, operand: torch.Tensor, x: torch.Tensor) -> None:
        """Report a weight (K, N) that lies at `place`, if it is rows of a matrix of it."""
        if place is None:
            return
        rows = _rows(place, operand)
        if rows is None and place.weight.view in (EXPERTS, EXPERTS_TRANSPOSED):
            view = place.weight.view
            place.weight.view = EXPERTS if view is EXPERTS_TRANSPOSED else EXPERTS_TRANSPOSED  # a call knows better
            rows = _rows(place, operand)
            if rows is None:
                place.weight.view = view
        if rows is not None:
            self._see(place.weight, rows, x)

    def _grouped(self, x: torch.Tensor, weights: torch.Tensor, ends: torch.Tensor | None) -> None:
        if ends is None:
            self._product(x, weights)
        elif weights.dim() == 3 and x.dim() == 2 and (place := self._place(weights)) is not None:
            bounds = [0, *ends.tolist()]
            for e, (start, stop) in enumerate(pairwise(bounds)):
                self._use(place, weights[e], x[start:stop])

    def _bilinear(self, weight: torch.Tensor, x: torch.Tensor) -> None:
        place = self._place(weight)
        if place is not None:
            self._see(place.weight, Rows(0, weight.shape[-3] * weight.shape[-2]), x.reshape(-1, x.shape[-1]))

    def _convolution(self, x: torch.Tensor, weight: torch.Tensor, *options: Any) -> None:
        _, stride, padding, dilation, transposed, _, groups = options[:7]
        place = self._place(weight)
        if place is None or transposed:
            return
        rows = weight.shape[0] // groups
        for group in range(groups):
            channels = x[:, group * weight.shape[1] :][:, : weight.shape[1]]
            for start in range(0, x.shape[0], SAMPLES_AT_ONCE):
                taps = patches(channels[start : start + SAMPLES_AT_ONCE], tuple(weight.shape[2:]), stride, padding, dilation)
                self._see(place.weight, Rows(group * rows, (group + 1) * rows), taps)


def _rows(place: _Place, operand: torch.Tensor) -> Rows | None:
    """Return which rows a weight (K, n) is, or None if it is no whole rows of one matrix."""
    stack = place.weight.view.stack(place.held)
    (experts, n, k), (of_expert, of_row, of_column) = stack.shape, stack.stride()
    width = operand.shape[1]
    if operand.shape[0] != k or (k > 1 and operand.stride(0) != of_column) or (width > 1 and operand.stride(1) != of_row):
        return None
    offset = (operand.data_ptr() - place.start) // operand.element_size()
    expert, rest = divmod(offset, of_expert) if experts > 1 else (0, offset)
    start, rest = divmod(rest, of_row)
    first = expert * n + start
    return Rows(first, first + width) if rest == 0 and start + width <= n else None


def patches(
    x: torch.Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> torch.Tensor:
    """Return what a convolution multiplies its weight by, in the order of `weight_matrix`.

    Parameters
    ----------
    x : torch.Tensor (batch, channels, width) or (batch, channels, height, width)

    Returns
    -------
    torch.Tensor (batch * places, taps * channels)
    """
    if len(kernel) == 1:
        x, kernel, stride, padding, dilation = x[:, :, None], (1, *kernel), (1, *stride), (0, *padding), (1, *dilation)
    channels = x.shape[1]
    unfolded = functional.unfold(x.float(), tuple(kernel), tuple(dilation), tuple(padding), tuple(stride))
    unfolded = unfolded.reshape(x.shape[0], channels, -1, unfolded.shape[2])  # (batch, channels, taps, places)
    return unfolded.permute(0, 3, 2, 1).reshape(-1, unfolded.shape[2] * channels)


@contextmanager
def written_out(model: nn.Module) -> Iterator[None]:
    """While this lasts, attention and recurrent layers run as products that can be watched, not in one kernel each."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with ExitStack() as undo:
        undo.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        if recurrent:
            undo.callback(torch._C._set_mkldnn_enabled, torch._C._get_mkldnn_enabled())
            undo.callback(torch._C._set_cudnn_enabled, torch._C._get_cudnn_enabled())
            torch._C._set_mkldnn_enabled(False)
            torch._C._set_cudnn_enabled(False)
        yield
