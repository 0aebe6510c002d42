"""Import a causal language model of transformers with a cache of keys and values: prefill and decode over one set of weights.

Both entry points take tokens (B, C), the slot of the first one, and for each row how many slots of padding it begins with. The
caches are inputs that hold every slot of a fixed length, and outputs that take their places.

    prefill     C = chunk tokens of a prompt, as often as it takes; what pads the last chunk is overwritten before it is seen, and
                one that would not fit begins earlier
    decode      C = 1
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tvm_balanced.core.entry_point import EntryPoint
from tvm_balanced.core.files import is_huggingface
from tvm_balanced.core.generation import Generation
from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.validation import check_count
from tvm_balanced.errors import InputError, ModelError, first_line
from tvm_balanced.frontend.entry_points import import_entry_points
from tvm_balanced.frontend.huggingface import load_huggingface
from tvm_balanced.frontend.inference import inference
from tvm_balanced.frontend.live_weights import recognised
from tvm_balanced.frontend.released_weights import releasing

CHUNK = 64  # tokens of a prompt that prefill takes at once, if the cache is as long
NEEDED = ("input_ids", "attention_mask", "position_ids", "past_key_values", "logits_to_keep")
ADVICE = "compile it with example inputs, without a cache"
TOKENS = 12  # of the text on which a model is compared with and without its cache


def import_causal_lm(
    model: Any, max_length: int, batch: int = 1, chunk: int | None = None, masks: str | Path | None = None
) -> ImportedModel:
    """Import a causal language model with entry points prefill and decode. The model itself is not changed.

    Parameters
    ----------
    model : transformers.PreTrainedModel, str or Path
        A model with attention in every layer, or the folder of one.
    max_length : int
        Slots of the cache: the most tokens of a prompt and its answer.
    batch : int
        Prompts of a call.
    chunk : int, optional
        Tokens of a prompt that one call of prefill takes; 64, or max_length if that is less.
    masks : str or Path, optional
        Of masks to multiply the weights of a folder by.

    Raises
    ------
    InputError
        If an argument is of another type, or the model takes fewer tokens than max_length.
    ModelError
        If the model is no causal language model whose cache is known here, or cannot be imported.
    """
    for name, value in (("max_length", max_length), ("batch", batch), ("chunk", chunk or 1)):
        check_count(name, value)
    model, found = language_model(model, masks, NEEDED, "causal language models of transformers")
    most = getattr(model.config, "max_position_embeddings", None)
    if isinstance(most, int) and max_length > most:
        raise InputError(f"max_length is {max_length}; the model takes {most} tokens at most")
    chunk = min(chunk or CHUNK, max_length)
    shapes = _cache_shapes(model, batch, max_length)
    step = CachedStep(model, max_length)
    check_logits(model, lambda: _logits(model, step, shapes))
    entries = {"prefill": _entry(model, shapes, batch, chunk), "decode": _entry(model, shapes, batch, 1)}
    said = f"a causal language model, {type(model).__name__}, of {len(shapes)} layers"
    imported = import_language_model(model, step, entries, [said, *found])
    imported.generation = Generation(max_length, batch, chunk, *special_tokens(model))
    return imported


def _logits(model: Any, step: "CachedStep", shapes: list[tuple[int, int, int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits behind a short text that is padded, without a cache and token by token with one."""
    count = min(TOKENS, shapes[0][2])
    ids = torch.randint(0, int(model.config.vocab_size), (1, count), generator=torch.Generator().manual_seed(0))
    pads = torch.tensor([count // 4])
    mask = (torch.arange(count) >= pads[:, None]).long()
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    plain = model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False).logits[:, -1]
    cache = [[torch.zeros(1, *shape[1:], dtype=model.dtype) for _ in range(2)] for shape in shapes]
    before = step(ids[:, :-1], torch.tensor(0), pads, torch.tensor([count - 2]), cache)["cache"] if count > 1 else cache
    return plain, step(ids[:, -1:], torch.tensor(count - 1), pads, torch.tensor([0]), before)["logits"]


def language_model(model: Any, masks: str | Path | None, needed: Sequence[str], what: str) -> tuple[Any, list[str]]:
    """Return a language model of transformers, of a folder too, and what was understood of the folder.

    Raises ModelError if it is none whose forward takes all that is `needed`, as `what` do.
    """
    found: list[str] = []
    if isinstance(model, (str, Path)):
        if not is_huggingface(Path(model)):
            raise ModelError(
                f"{model} is not a folder of transformers, with a config.json; give one, or the model itself", usage=True
            )
        model, found = load_huggingface(model, masks)
    taken = parameters_of(model) if isinstance(model, nn.Module) and hasattr(model, "config") else ()
    lacking = [name for name in needed if name not in taken]
    if lacking:
        raise ModelError(f"{type(model).__name__} takes no {lacking[0]}, as {what} do; {ADVICE}")
    return model, found


def import_language_model(model: Any, step: nn.Module, entries: Mapping[str, EntryPoint], said: Sequence[str]) -> ImportedModel:
    """Import what computes a model's entry points, named as the model itself; caches are donated. `said`: what it is."""
    imported = import_entry_points(step, entries)
    for entry in imported.entry_points.values():
        entry.donate.update({spec.name: spec.name for spec in entry.inputs if spec.name.startswith("cache_")})
    imported.source = f"{type(model).__module__}.{type(model).__qualname__}"
    imported.weight_names = {address: name.removeprefix("model.") for address, name in imported.weight_names.items()}
    unread = {name.removeprefix("model."): rest for name, rest in imported.origins.unread.items()}
    imported.origins = replace(imported.origins, unread=unread)
    imported.recognised += [*said, *recognised(model)]
    return imported


def check_logits(model: nn.Module, run: Callable[[], tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Raise ModelError where a model gives other logits with a cache of fixed slots than without one.

    Attention that masks keys by how many there are takes empty slots for tokens.

    Parameters
    ----------
    model : torch.nn.Module
    run : callable
        Returns the logits without a cache, and those with one.
    """
    try:
        with inference(model), releasing(model.parameters()):
            plain, cached = (logits.float() for logits in run())
    except Exception:  # the export says what is wrong
        return
    error = float((cached - plain).norm() / plain.norm())
    if torch.isfinite(plain).all() and not error <= _roundings(model):
        raise ModelError(
            f"{type(model).__name__} gives other logits with a cache of fixed slots than without one, by {error:.0%}, as where "
            f"attention counts the keys that it is given; {ADVICE}"
        )


def _roundings(model: nn.Module) -> float:
    """Return how far apart logits may be, over their norm: far more than roundings, also where these choose another expert."""
    if getattr(model, "dtype", torch.float32) in (torch.float32, torch.float64):
        return 0.01
    return 0.5 if any("experts" in name for name, _ in model.named_modules()) else 0.15


def parameters_of(model: nn.Module) -> tuple[str, ...]:
    """Return the names of what the forward of a model takes."""
    return tuple(inspect.signature(model.forward).parameters)


def _cache_shapes(model: Any, batch: int, length: int) -> list[tuple[int, int, int, int]]:
    """Return (batch, heads, length, size) of the keys of each layer, from what the model itself caches."""
    try:
        with inference(model), releasing(model.parameters()):
            cache = model(input_ids=torch.zeros(1, 2, dtype=torch.int64), use_cache=True).past_key_values
        layers = [(layer.keys.shape, layer.values.shape) for layer in cache.layers]
    except Exception as error:  # the user's model, and any kind of cache
        raise ModelError(
            f"{type(model).__name__} keeps no keys and values layer by layer ({first_line(error)}); {ADVICE}"
        ) from None
    if any(len(keys) != 4 or keys != values for keys, values in layers) or len(layers) != model.config.num_hidden_layers:
        raise ModelError(f"{type(model).__name__} keeps a cache other than keys and values of every layer; {ADVICE}")
    return [(batch, keys[1], length, keys[3]) for keys, _ in layers]


def _entry(model: Any, shapes: list[tuple[int, int, int, int]], batch: int, count: int) -> EntryPoint:
    generator = torch.Generator().manual_seed(count)
    last = int(model.config.vocab_size)

    def drawn(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(model.dtype)

    return EntryPoint(
        (
            torch.randint(0, last, (batch, count), generator=generator),
            torch.tensor(min(1, shapes[0][2] - 1)),
            torch.zeros(batch, dtype=torch.int64),
            torch.tensor([count - 1]),
            [[drawn(shape), drawn(shape)] for shape in shapes],
        )
    )


def special_tokens(model: Any) -> tuple[tuple[int, ...], int]:
    """Return the tokens that end a text, and the one that fills up behind it."""
    config = getattr(model, "generation_config", None) or model.config
    ends = config.eos_token_id
    ends = [] if ends is None else list(ends) if isinstance(ends, (list, tuple)) else [ends]
    pad = config.pad_token_id
    return tuple(int(end) for end in ends), int(pad if isinstance(pad, int) else ends[0] if ends else 0)


@dataclass
class Layer:
    """Keys and values of one layer, (B, H, L, D) each."""

    keys: torch.Tensor
    values: torch.Tensor


class Cache:
    """What attention of transformers calls its cache: it puts new keys and values into their slots, and returns all of them."""

    is_compileable = False

    def __init__(self, layers: list[Layer], slots: torch.Tensor) -> None:
        self.layers, self.slots = layers, slots

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        held = self.layers[layer]
        held.keys, held.values = (old.index_copy(2, self.slots, new) for old, new in ((held.keys, keys), (held.values, values)))
        return held.keys, held.values

    def get_seq_length(self, *_: Any) -> int:
        return 0


class CachedStep(nn.Module):
    """Some tokens of a text through a model, given what it cached of those before."""

    def __init__(self, model: nn.Module, length: int) -> None:
        super().__init__()
        self.model, self.length = model, length
        config: Any = model.config
        self.kinds = set(getattr(config, "layer_types", None) or ())
        uses = getattr(config, "use_sliding_window", True)
        self.window = getattr(config, "sliding_window", None) if uses else None

    def forward(
        self, tokens: torch.Tensor, start: torch.Tensor, pads: torch.Tensor, last: torch.Tensor, cache: list[list[torch.Tensor]]
    ) -> dict[str, Any]:
        """Return the logits (B, V) behind one of the tokens, and the caches with all of them.

        Parameters
        ----------
        tokens : (B, C) int64
        start : () int64
            Slot of the first token; C slots before the last one at most.
        pads : (B,) int64
            Slots of padding before the text of each row.
        last : (1,) int64
            Place among the tokens whose logits are wanted.
        cache : [keys (B, H, L, D), values (B, H, L, D)] for each layer
        """
        slots = start.clamp(0, self.length - tokens.shape[1]) + torch.arange(tokens.shape[1])
        held = Cache([Layer(keys, values) for keys, values in cache], slots)
        result = self.model(
            input_ids=tokens,
            attention_mask=self._masks(slots, pads, cache[0][0].dtype),
            position_ids=(slots - pads[:, None]).clamp(min=0),
            past_key_values=held,
            use_cache=False,
            logits_to_keep=last,
            return_dict=True,
        )
        return {"logits": result.logits[:, 0], "cache": [[layer.keys, layer.values] for layer in held.layers]}

    def _masks(self, slots: torch.Tensor, pads: torch.Tensor, dtype: torch.dtype) -> Any:
        """Return what is added to scores (B, 1, C, L): one mask, or one for each kind of layer."""
        places = torch.arange(self.length)
        seen = (places <= slots[:, None]) & (places >= pads[:, None, None])

        def added(allowed: torch.Tensor) -> torch.Tensor:
            return torch.where(allowed, 0.0, torch.finfo(dtype).min).to(dtype)[:, None]

        near = seen if self.window is None else seen & (slots[:, None] - places < self.window)
        if self.kinds > {"full_attention"} or self.kinds == {"sliding_attention"}:
            return {"full_attention": added(seen), "sliding_attention": added(near)}
        return added(seen if self.kinds == {"full_attention"} else near)
