"""Small random modules: layers, dtypes, integer and boolean side inputs, masks, slices, sharing, a dynamic batch."""

import random

import torch
from torch import nn
from torch.nn import functional

WIDTH, LENGTH, IDS = 32, 6, 11
DTYPES = (torch.float32, torch.float32, torch.float32, torch.float16, torch.bfloat16)


class RandomGraph(nn.Module):
    """A chain of random steps on x (B, L, D), ids and counts (B, L) of integers, and a mask (B, L) of booleans.

    Each step takes the newest tensor, and may take any earlier one; layers may be used twice.
    """

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.random = random.Random(seed)
        self.dynamic = self.random.random() < 0.4
        self.dtype = self.random.choice(DTYPES)
        self.layers, self.steps = nn.ModuleList(), []
        for _ in range(self.random.randint(3, 7)):
            name = self.random.choice(sorted(STEPS))
            self.steps.append((name, STEPS[name](self, self.random)))
        self.integers = self.random.choice(sorted(INTEGER_OUTPUTS))
        self.to(self.dtype).eval()

    def layer(self, make, kind):
        """Return the place of a new layer, or one time in three of one of its kind that is there."""
        same = [place for place, layer in enumerate(self.layers) if isinstance(layer, kind)]
        if same and self.random.random() < 1 / 3:
            return self.random.choice(same)
        self.layers.append(make())
        return len(self.layers) - 1

    def forward(self, x, ids, counts, mask):
        earlier = [x]
        for _, step in self.steps:
            earlier.append(step(earlier, ids, counts, mask))
        return earlier[-1], INTEGER_OUTPUTS[self.integers](ids, counts, mask)

    def inputs(self, seed, batch=3):
        """Draw inputs; those of another seed have other values, padding and ids."""
        rng = torch.Generator().manual_seed(seed)
        x = torch.randn(batch, LENGTH, WIDTH, generator=rng).to(self.dtype)
        ids, counts = (torch.randint(0, limit, (batch, LENGTH), generator=rng) for limit in (IDS, 9))
        lengths = torch.randint(1, LENGTH + 1, (batch, 1), generator=rng)
        return x, ids, counts, torch.arange(LENGTH)[None] < lengths


def _linear(graph, rng):
    place, kept = graph.layer(lambda: nn.Linear(WIDTH, WIDTH, bias=rng.random() < 0.7), nn.Linear), rng.choice([2, 4, 16])
    with torch.no_grad():
        weight = graph.layers[place].weight
        weight.mul_((torch.arange(WIDTH)[None] % 16 + torch.arange(WIDTH)[:, None]) % 16 < kept)
    return lambda earlier, *_: graph.layers[place](earlier[-1])


def _embedding(graph, rng):
    place = graph.layer(lambda: nn.Embedding(IDS, WIDTH), nn.Embedding)
    return lambda earlier, ids, counts, mask: earlier[-1] + graph.layers[place](ids)


def _convolution(graph, rng):
    place = graph.layer(lambda: nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=rng.choice([1, 4])), nn.Conv1d)
    return lambda earlier, *_: graph.layers[place](earlier[-1].transpose(1, 2)).transpose(1, 2)


def _recurrent(graph, rng):
    place = graph.layer(lambda: rng.choice([nn.GRU, nn.LSTM, nn.RNN])(WIDTH, WIDTH, batch_first=True), nn.RNNBase)
    if rng.random() < 0.5:
        return lambda earlier, *_: graph.layers[place](earlier[-1])[0]
    return lambda earlier, *_: earlier[-1] + graph.layers[place](earlier[-1])[0][:, -1, None]


def _norm(graph, rng):
    place = graph.layer(lambda: nn.LayerNorm(WIDTH), nn.LayerNorm)
    return lambda earlier, *_: graph.layers[place](earlier[-1])


def _activation(graph, rng):
    names = "relu gelu silu tanh sigmoid elu selu mish softplus hardswish leaky_relu".split()
    function = getattr(functional, rng.choice(names))
    return lambda earlier, *_: function(earlier[-1])


def _attention(graph, rng):
    blocked = rng.choice([
        lambda mask: ((mask.long() == 0) * -1e4)[:, None],
        lambda mask: torch.where(mask, 0.0, -1e4)[:, None],
        lambda mask: (1 - mask[:, None].long()) * -1e4,
        lambda mask: torch.triu(torch.full((LENGTH, LENGTH), -1e4), 1),
    ])  # fmt: skip

    def step(earlier, ids, counts, mask):
        query, key = earlier[-1], earlier[rng_place % len(earlier)]
        scores = query @ key.transpose(1, 2) / WIDTH + blocked(mask).to(query.dtype)
        return scores.softmax(-1) @ key

    rng_place = rng.randrange(9)
    return step


def _pooling(graph, rng):
    def mean(x, mask):
        share = mask / mask.sum(1, keepdim=True).clamp(min=1)
        return (x * share.to(x.dtype).unsqueeze(-1)).sum(1)

    pool = rng.choice(
        [mean, lambda x, mask: x.masked_fill(~mask[:, :, None], -50).amax(1), lambda x, mask: x[:, -1], lambda x, mask: x.mean(1)]
    )
    return lambda earlier, ids, counts, mask: earlier[-1] + pool(earlier[-1], mask)[:, None]


def _slices(graph, rng):
    cut = rng.choice([
        lambda x: torch.cat([x[:, 1:], x[:, :1]], 1),
        lambda x: torch.cat([x[..., WIDTH // 2 :], x[..., : WIDTH // 2]], -1),
        lambda x: x[:, [0, -1, 2, 1, -2, 3]],
        lambda x: x.flip(1),
        lambda x: x.unflatten(2, (4, WIDTH // 4)).transpose(2, 3).flatten(2),
        lambda x: torch.stack(x.chunk(2, -1), -1).flatten(2),
        lambda x: x + x[:, -2:].sum(1, keepdim=True),
    ])  # fmt: skip
    return lambda earlier, *_: cut(earlier[-1])


def _integers(graph, rng):
    weigh = rng.choice([
        lambda ids, counts: counts / 2,
        lambda ids, counts: counts // 3 - ids % 4,
        lambda ids, counts: (counts > 2.5) * 0.5,
        lambda ids, counts: torch.exp(-counts / 4),
        lambda ids, counts: torch.sin(ids),
        lambda ids, counts: (counts - 4).clamp(min=-1, max=2),
        lambda ids, counts: counts.cumsum(1) / 8,
        lambda ids, counts: 1 / (counts + 1),
        lambda ids, counts: (ids == counts).long() - 1,
    ])  # fmt: skip
    if rng.random() < 0.5:
        return lambda earlier, ids, counts, mask: earlier[-1] * weigh(ids, counts).to(earlier[-1].dtype)[..., None]
    return lambda earlier, ids, counts, mask: earlier[-1] + weigh(ids, counts).to(earlier[-1].dtype)[..., None]


def _mask(graph, rng):
    kept = rng.choice([
        lambda x, mask: x * mask[..., None],
        lambda x, mask: x.masked_fill(~mask[..., None], 0.25),
        lambda x, mask: torch.where(mask[..., None], x, x / 2),
        lambda x, mask: x * (mask.cumsum(1) % 2)[..., None],
        lambda x, mask: x + mask.sum(0)[:, None] / 4,
    ])  # fmt: skip
    return lambda earlier, ids, counts, mask: kept(earlier[-1], mask).to(earlier[-1].dtype)


def _residual(graph, rng):
    place, factor = rng.randrange(9), rng.choice([1, 0.5, 2])
    return lambda earlier, *_: torch.add(earlier[-1], earlier[place % len(earlier)], alpha=factor)


STEPS = {
    "activation": _activation,
    "attention": _attention,
    "convolution": _convolution,
    "embedding": _embedding,
    "integers": _integers,
    "linear": _linear,
    "linear again": _linear,
    "mask": _mask,
    "norm": _norm,
    "pooling": _pooling,
    "recurrent": _recurrent,
    "residual": _residual,
    "slices": _slices,
}
INTEGER_OUTPUTS = {
    "lengths": lambda ids, counts, mask: mask.sum(1),
    "remainder": lambda ids, counts, mask: (counts - 5) % 3,
    "seen": lambda ids, counts, mask: (ids * mask).amax(1),
    "equal": lambda ids, counts, mask: ids == counts,
    "places": lambda ids, counts, mask: mask.cumsum(1) - 1,
    "any": lambda ids, counts, mask: (counts > 7).any(1),
    "share": lambda ids, counts, mask: counts / counts.sum(1, keepdim=True).clamp(min=1),
}
