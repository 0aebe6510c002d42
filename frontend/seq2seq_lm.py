"""Import a language model of transformers with an encoder and a decoder, T5 for instance, with its keys and values cached.

    encode      source texts (B, S) and their mask give what every layer of the decoder attends to: keys and values (B, H, S, D)
    decode      one token (B, 1) for each text, its slot, the mask, these keys and values, and the decoder's own cache

A shorter source text is padded behind; nothing attends to what pads it. So every shape is static.
"""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tvm_balanced.core.entry_point import EntryPoint
from tvm_balanced.core.generation import Generation
from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.validation import check_count
from tvm_balanced.errors import ModelError, first_line
from tvm_balanced.frontend.causal_lm import (
    ADVICE,
    Cache,
    Layer,
    check_logits,
    import_language_model,
    language_model,
    special_tokens,
)
from tvm_balanced.frontend.inference import inference
from tvm_balanced.frontend.released_weights import releasing

NEEDED = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask", "encoder_outputs", "past_key_values")
TOKENS = 4  # of the answer on which a model is compared with and without its cache
Shapes = tuple[tuple[int, int, int, int], tuple[int, int, int, int]]


def import_seq2seq_lm(
    model: Any, max_source: int, max_length: int, batch: int = 1, masks: str | Path | None = None
) -> ImportedModel:
    """Import a language model with entry points encode and decode. The model itself is not changed.

    Parameters
    ----------
    model : transformers.PreTrainedModel, str or Path
        A model whose decoder knows places by its cache alone, as T5's, or the folder of one.
    max_source : int
        Tokens of a source text.
    max_length : int
        Slots of the decoder's cache: the most tokens of an answer.
    batch : int
        Source texts of a call.
    masks : str or Path, optional
        Of masks to multiply the weights of a folder by.

    Raises
    ------
    InputError
        If an argument is of another type.
    ModelError
        If the model has no encoder, keeps another cache, or cannot be imported.
    """
    for name, value in (("max_source", max_source), ("max_length", max_length), ("batch", batch)):
        check_count(name, value)
    model, found = language_model(model, masks, NEEDED, "language models with an encoder")
    shapes = _cache_shapes(model, batch, max_source, max_length)
    said = f"a language model with an encoder, {type(model).__name__}, of {len(shapes)} layers of its decoder"
    steps = EncodeDecode(model, max_length, _first(model))
    check_logits(model, lambda: _logits(model, steps, shapes, max_source))
    imported = import_language_model(model, steps, _entries(model, shapes, batch, max_source), [said, *found])
    ends, pad = special_tokens(model)
    imported.generation = Generation(max_length, batch, 1, ends, pad, max_source, _first(model))
    return imported


def _first(model: Any) -> int:
    """Return the token that an answer begins with."""
    for config in (getattr(model, "generation_config", None), model.config):
        token = getattr(config, "decoder_start_token_id", None)
        if isinstance(token, int):
            return token
    raise ModelError(f"{type(model).__name__} has no decoder_start_token_id; set it in model.config")


def _cache_shapes(model: Any, batch: int, source: int, length: int) -> list[Shapes]:
    """Return (batch, heads, slots, size) of the keys of each layer, own and crossed, from what the model itself caches."""
    ids = torch.zeros(1, 2, dtype=torch.int64)
    try:
        with inference(model), releasing(model.parameters()):
            cache = model(input_ids=ids, decoder_input_ids=ids[:, :1], use_cache=True).past_key_values
        kinds = (cache.self_attention_cache, cache.cross_attention_cache)
        layers = [[(layer.keys.shape, layer.values.shape) for layer in kind.layers] for kind in kinds]
    except Exception as error:  # the user's model, and any kind of cache
        raise ModelError(
            f"{type(model).__name__} keeps no keys and values layer by layer ({first_line(error)}); {ADVICE}"
        ) from None
    own, crossed = layers
    if len(own) != len(crossed) or any(len(keys) != 4 or keys != values for keys, values in (*own, *crossed)):
        raise ModelError(f"{type(model).__name__} keeps a cache other than keys and values of every layer; {ADVICE}")
    return [
        ((batch, mine[1], length, mine[3]), (batch, theirs[1], source, theirs[3]))
        for (mine, _), (theirs, _) in zip(own, crossed, strict=True)
    ]


def _logits(model: Any, steps: "EncodeDecode", shapes: list[Shapes], source: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits behind a few tokens for a source text that is padded, without a cache and token by token with one."""
    generator, vocabulary = torch.Generator().manual_seed(0), int(model.config.vocab_size)
    ids = torch.randint(0, vocabulary, (1, source), generator=generator)
    mask = (torch.arange(source) < max(1, source - 2)).long()[None]
    text = torch.randint(0, vocabulary, (1, min(TOKENS, steps.length)), generator=generator)
    plain = model(input_ids=ids, attention_mask=mask, decoder_input_ids=text, use_cache=False).logits[:, -1]
    crossed = steps.encode(ids, mask)
    step: dict[str, Any] = {"cache": [[torch.zeros(1, *own[1:], dtype=model.dtype) for _ in range(2)] for own, _ in shapes]}
    for place in range(text.shape[1]):
        step = steps.decode(text[:, place : place + 1], torch.tensor(place), mask, crossed, step["cache"])
    return plain, step["logits"]


def _entries(model: Any, shapes: list[Shapes], batch: int, source: int) -> dict[str, EntryPoint]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, int(model.config.vocab_size), (batch, source), generator=generator)
    mask = torch.ones_like(ids)

    def drawn(place: int) -> list[list[torch.Tensor]]:
        pairs = [(layer[place], layer[place]) for layer in shapes]
        return [[torch.randn(shape, generator=generator).to(model.dtype) for shape in pair] for pair in pairs]

    start = torch.tensor(min(1, shapes[0][0][2] - 1))
    return {
        "encode": EntryPoint((ids, mask), method="encode"),
        "decode": EntryPoint((ids[:, :1], start, mask, drawn(1), drawn(0)), method="decode"),
    }


class _Own(Cache):
    """The decoder's own cache, which tells how many tokens came before."""

    def __init__(self, layers: list[Layer], slot: torch.Tensor) -> None:
        super().__init__(layers, slot.reshape(1))
        self.slot = slot

    def get_seq_length(self, *_: Any) -> Any:
        return self.slot


class _Crossed:
    """What is kept of the encoder: keys and values of each layer, as they come."""

    is_compileable = False

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.layers.append(Layer(keys, values))
        return keys, values


@functools.cache
def _pair_class() -> Any:
    """Return the class that attention of transformers takes for a cache of both kinds."""
    from transformers import EncoderDecoderCache

    class Pair(EncoderDecoderCache):
        """Both caches; whether the encoder's is filled."""

        def __init__(self, own: _Own, crossed: _Crossed) -> None:
            self.self_attention_cache, self.cross_attention_cache = own, crossed
            self.is_updated = dict.fromkeys(range(len(crossed.layers)), True)

        def get_seq_length(self, *_: Any, **__: Any) -> Any:
            """Return how many tokens came before, a tensor."""
            return self.self_attention_cache.get_seq_length()

    return Pair


class EncodeDecode(nn.Module):
    """A model as two functions, which share its weights."""

    def __init__(self, model: nn.Module, length: int, first: int) -> None:
        super().__init__()
        self.model, self.length, self.first = model, length, first

    def encode(self, source: torch.Tensor, mask: torch.Tensor) -> list[list[torch.Tensor]]:
        """Return keys and values of the encoder's result for each layer of the decoder.

        Parameters
        ----------
        source : (B, S) int64
        mask : (B, S) int64
            0 where a text is padded.
        """
        layers = [Layer(torch.zeros(()), torch.zeros(())) for _ in range(self._layers())]
        own = _First(layers, torch.zeros((), dtype=torch.int64))
        crossed = _Crossed([])
        tokens = torch.full_like(source[:, :1], self.first)
        self.model(
            input_ids=source,
            attention_mask=mask,
            decoder_input_ids=tokens,
            decoder_attention_mask=torch.zeros(len(source), 1, 1, 1),
            past_key_values=_pair_class()(own, crossed),
            use_cache=True,
        )
        return [[layer.keys, layer.values] for layer in crossed.layers]

    def decode(
        self,
        tokens: torch.Tensor,
        start: torch.Tensor,
        mask: torch.Tensor,
        crossed: list[list[torch.Tensor]],
        cache: list[list[torch.Tensor]],
    ) -> dict[str, Any]:
        """Return the logits (B, V) behind a token, and the decoder's cache with it.

        Parameters
        ----------
        tokens : (B, 1) int64
        start : () int64
            Its slot.
        mask : (B, S) int64
        crossed, cache : [keys (B, H, ., D), values (B, H, ., D)] for each layer
        """
        slot = start.clamp(0, self.length - 1)
        own = _Own([Layer(keys, values) for keys, values in cache], slot)
        keys = crossed[0][0]
        seen = torch.where(torch.arange(self.length) <= slot, 0.0, torch.finfo(keys.dtype).min).to(keys.dtype)
        hidden = torch.zeros(mask.shape[0], mask.shape[1], self._width(), dtype=keys.dtype)  # of which only the shape counts
        result = self.model(
            attention_mask=mask,
            encoder_outputs=(hidden,),
            decoder_input_ids=tokens,
            decoder_attention_mask=seen.expand(mask.shape[0], 1, 1, self.length),
            past_key_values=_pair_class()(own, _Crossed([Layer(k, v) for k, v in crossed])),
            use_cache=True,
            return_dict=True,
        )
        return {"logits": result.logits[:, -1], "cache": [[layer.keys, layer.values] for layer in own.layers]}

    def _layers(self) -> int:
        config: Any = self.model.config
        return int(getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", config.num_hidden_layers))

    def _width(self) -> int:
        config: Any = self.model.config
        return int(getattr(config, "d_model", None) or config.hidden_size)


class _First(_Own):
    """The decoder's own cache before its first token: it keeps nothing."""

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return keys, values
