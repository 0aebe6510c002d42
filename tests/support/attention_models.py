"""PyTorch's attention as users write it, for the tests of the passes that change it."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import tvm_balanced as tb


class Attention(nn.Module):
    """Attention on q, k and v (batch, heads, tokens, width), or with tokens before heads."""

    def __init__(self, form, heads_first=True, **options):
        super().__init__()
        self.form, self.heads_first, self.options = form, heads_first, options

    def forward(self, q, k, v, mask=None):
        if not self.heads_first:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        y = self.form(q, k, v, mask, **self.options)
        return y if self.heads_first else y.transpose(1, 2)


def written_out(q, k, v, mask, scale=0.3):
    scores = q @ k.transpose(-1, -2) * scale
    return functional.softmax(scores if mask is None else scores + mask, -1) @ v


def masked_before(q, k, v, mask):
    return functional.softmax(mask + q @ k.transpose(-1, -2) / 4.0, -1) @ v


def where(q, k, v, mask):
    scores = q @ k.transpose(-1, -2) / 4.0
    return functional.softmax(torch.where(mask > 0, scores, torch.finfo(scores.dtype).min), -1) @ v


def two_masks(q, k, v, mask):
    return functional.softmax(q @ k.transpose(-1, -2) / 4.0 + mask + 0.5 * mask.flip(-1), -1) @ v


FORMS = {
    "plain": (Attention(lambda q, k, v, _: functional.softmax(q @ k.transpose(-1, -2), -1) @ v), False),
    "written out": (Attention(written_out), True),
    "tokens first": (Attention(written_out, heads_first=False), True),
    "without a mask": (Attention(written_out, heads_first=False), False),
    "two masks": (Attention(two_masks), True),
    "mask first": (Attention(masked_before), True),
    "where": (Attention(where), True),
    "constant mask": (
        Attention(lambda q, k, v, _: written_out(q, k, v, torch.ones(q.shape[-2], k.shape[-2]).triu(1) * -1e9)),
        False,
    ),
    "sdpa": (Attention(functional.scaled_dot_product_attention), False),
    "sdpa, tokens first": (Attention(functional.scaled_dot_product_attention, heads_first=False), False),
    "sdpa, mask": (Attention(functional.scaled_dot_product_attention), True),
    "sdpa, causal": (Attention(functional.scaled_dot_product_attention, is_causal=True), False),
}


def arguments(rng, shape=(2, 3, 64, 32), tokens=64, mask=False, heads_first=True):
    batch, heads, rows, width = shape
    sizes = ((batch, heads, rows, width), (batch, heads, tokens, width), (batch, heads, tokens, width))
    arrays = [rng.standard_normal(size).astype(np.float32) for size in sizes]
    args = [torch.from_numpy(a if heads_first else np.ascontiguousarray(a.transpose(0, 2, 1, 3))) for a in arrays]
    return (*args, torch.from_numpy(rng.standard_normal((batch, 1, rows, tokens)).astype(np.float32))) if mask else tuple(args)


def functions(compiled, args):
    return [row.name for row in compiled.profile(*args, rounds=1).rows]


def check(model, args, tolerance=1e-5):
    compiled = tb.compile(model.eval(), args)
    expected = model.double()(*[x.double() for x in args])
    torch.testing.assert_close(compiled(*args).double(), expected, rtol=tolerance, atol=tolerance)
    return functions(compiled, args)
