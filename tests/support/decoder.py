"""A language model in small: attention over a cache of a fixed length, for the tests of models with several entry points."""

import torch
from torch import nn

import tvm_balanced as tb

LONGEST, WIDTH, VOCABULARY = 16, 64, 50


class Decoder(nn.Module):
    """Prefill and decode are methods that call the same layers."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens, first, keys, values):
        x = self.embed(tokens)
        places = torch.arange(LONGEST)
        rows = first + torch.arange(tokens.shape[1])
        here = (places[:, None] == rows).float()
        free = 1 - here.sum(1, keepdim=True)
        keys, values = (cache * free + here @ new for cache, new in ((keys, self.k(x)), (values, self.v(x))))
        mask = torch.where(places <= rows[:, None], 0.0, float("-inf"))
        scores = self.q(x) @ keys.transpose(-1, -2) / 8 + mask
        return {"logits": self.head(x + self.out(torch.softmax(scores, -1) @ values)), "keys": keys, "values": values}

    def decode(self, token, position, keys, values):
        """One token: forward at one place, and the most probable next one."""
        result = self.forward(token, position, keys, values)
        return result | {"next": result["logits"].argmax(-1)}


def decoder():
    """Return a pruned decoder."""
    torch.manual_seed(0)
    model = Decoder().eval()
    tb.prune(model, "2:16", exclude="embed")
    return model


def state():
    """Return an empty cache."""
    return torch.zeros(1, LONGEST, WIDTH), torch.zeros(1, LONGEST, WIDTH)


def entry_points():
    """Return the entry points of a decoder, whose caches are donated."""
    length = torch.export.Dim("length", max=LONGEST)
    donate = {"keys": "keys", "values": "values"}
    tokens, start = torch.randint(VOCABULARY, (1, 5)), torch.tensor(0)
    return {
        "prefill": tb.EntryPoint((tokens, start, *state()), None, ({1: length}, None, None, None), donate=donate),
        "decode": tb.EntryPoint((tokens[:, :1], torch.tensor(5), *state()), method="decode", donate=donate),
    }
