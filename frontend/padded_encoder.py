"""nn.TransformerEncoder with a padding mask as eager PyTorch computes it: 0 at padded places.

In eval mode without gradients PyTorch takes a fast path of nested tensors, which leaves padded places out and fills them with 0,
where padding follows the text in every row. torch.export traces the other path, which computes something for padded places too.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def padded_with_zeros() -> Iterator[None]:
    """Within it, torch.export traces nn.TransformerEncoder as the fast path computes it. Eager calls are as ever."""
    original = nn.TransformerEncoder.forward

    def forward(
        self: nn.TransformerEncoder,
        src: torch.Tensor,
        mask: torch.Tensor | None = None,
        src_key_padding_mask: torch.Tensor | None = None,
        is_causal: bool | None = None,
    ) -> torch.Tensor:
        if src_key_padding_mask is None or not _is_fast(self, src, mask, is_causal):
            return original(self, src, mask, src_key_padding_mask, is_causal)
        y = src
        for layer in self.layers:
            y = layer(y, src_key_padding_mask=src_key_padding_mask)
        y = torch.where(_left_out(src_key_padding_mask)[:, :, None], 0, y)
        return y if self.norm is None else self.norm(y)

    nn.TransformerEncoder.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.TransformerEncoder.forward = original  # type: ignore[method-assign]


def _is_fast(encoder: nn.TransformerEncoder, src: torch.Tensor, mask: torch.Tensor | None, is_causal: bool | None) -> bool:
    """Whether eager PyTorch takes its fast path for a padding mask, but for what the values of that mask decide."""
    return (
        torch.compiler.is_exporting()
        and torch.backends.mha.get_fastpath_enabled()
        and getattr(encoder, "use_nested_tensor", False)
        and not encoder.layers[0].training
        and src.dim() == 3
        and mask is None
        and not is_causal
        and not torch.is_autocast_enabled("cpu")
    )


def _left_out(padding: torch.Tensor) -> torch.Tensor:
    """Return which places (B, T) the fast path fills with 0: the padded ones, none if padding is not last in every row.

    `padding` is True, or another number than 0, where a place is padded.
    """
    kept = padding.logical_not()
    places = torch.arange(padding.shape[1], device=padding.device)
    is_last = (kept == (places < kept.sum(1, keepdim=True))).all()
    return kept.logical_not() & is_last
