"""CausalLM and Seq2SeqLM: compiled language models that generate text, their keys and values cached."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tvm_balanced.core.dtypes import numpy_dtype
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.generation import Generation
from tvm_balanced.core.validation import check_count
from tvm_balanced.errors import InputError
from tvm_balanced.runtime.compiled_module import CompiledModule
from tvm_balanced.runtime.metadata import ModuleMetadata
from tvm_balanced.runtime.sampling import Sampling
from tvm_balanced.runtime.tensors import empty_aligned, is_torch

Decode = Callable[[Array, int], Array]


class LanguageModel(CompiledModule):
    """What generates text token by token, with a cache of a fixed number of slots. Every call of `generate` has its own."""

    @property
    def generation(self) -> Generation:
        """How long its cache is, and which tokens end a text."""
        assert self.facts.generation is not None  # by which this class is chosen
        return self.facts.generation

    def generate(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        *,
        max_new_tokens: int | None = None,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        seed: int = 0,
        eos_token_id: int | None = None,
        streamer: Any = None,
    ) -> Any:
        """Return what the model writes, as `generate` of transformers does.

        Behind the prompts, or, of a model with an encoder, behind the token that every answer begins with.

        Parameters
        ----------
        input_ids : (B, T) int64 torch tensor or array
            As many rows as it was compiled for, or fewer.
        attention_mask : (B, T), optional
            1 for tokens and 0 for padding, which stands before a prompt, and behind the source text of a model with an encoder.
        max_new_tokens : int, optional
            By default as many as the cache has room for.
        do_sample : bool
            Whether tokens are drawn; by default each is the most probable one.
        temperature, top_k, top_p
            As in transformers; they count if tokens are drawn.
        seed : int
            Of the draws: the same one gives the same text.
        eos_token_id : int, optional
            The token that ends a text; by default the model's own.
        streamer : callable or streamer of transformers, optional
            Is given the new token of each row, (B,) int64, as soon as it is known. One of transformers, as TextStreamer, is given
            what stands before the first token too, and is told the end.

        Returns
        -------
        (B, T + new) int64, of the kind that was given; of a model with an encoder (B, 1 + new). A text that ended is filled up
        with `generation.pad`.

        Raises
        ------
        InputError
            If an argument is of another type or shape, padding stands behind tokens, or the cache is too short.
        TargetError
            If it was compiled for another machine.
        """
        ids, mask = self._given(input_ids, attention_mask)
        text = self._first(ids)
        room = self.generation.length - self._slots(ids)
        wanted = max(room, 1) if max_new_tokens is None else max_new_tokens
        check_count("max_new_tokens", wanted)
        if wanted > room:
            raise InputError(self._too_long(ids, wanted))
        ends = self.generation.ends if eos_token_id is None else (eos_token_id,)
        choose = Sampling(temperature, top_k, top_p, seed).choose if do_sample else most_probable
        put, end = _listener(streamer, input_ids, text[0])
        for token in self._tokens(ids, mask, wanted, choose, ends):
            text.append(token[:, None])
            put(token)
        end()
        return _like(input_ids, np.concatenate(text, 1))

    def _tokens(
        self, ids: Array, mask: Array, wanted: int, choose: Callable[[Array], Array], ends: tuple[int, ...]
    ) -> Iterator[Array]:
        """Yield one token after another for each row, until every text has ended."""
        rows = len(ids)
        logits, decode = self._begin(ids, mask)
        ended = np.zeros(rows, bool)
        for count in range(1, wanted + 1):
            token = np.where(ended, self.generation.pad, choose(logits[:rows])).astype(np.int64)
            yield token
            ended |= np.isin(token, ends)
            if ended.all() or count == wanted:
                return
            logits = decode(self._filled(token[:, None]), count)

    def _begin(self, ids: Array, mask: Array) -> tuple[Array, Decode]:
        """Return the logits of the first token, and what gives those behind the count-th one."""
        raise NotImplementedError

    def _first(self, ids: Array) -> list[Array]:
        """Return what stands before the first token that is written."""
        raise NotImplementedError

    def _slots(self, ids: Array) -> int:
        """Return how many slots are taken when the first token is written."""
        raise NotImplementedError

    def _too_long(self, ids: Array, wanted: int) -> str:
        return (
            f"a prompt of {self._slots(ids)} tokens and {wanted} new ones were asked for; the cache has {self.generation.length} "
            "slots: compile with a larger max_length, or ask for fewer"
        )

    def _given(self, input_ids: Any, attention_mask: Any) -> tuple[Array, Array]:
        """Return texts and their masks, (B, T) each."""
        ids = _array("input_ids", input_ids)
        if ids.ndim != 2 or not 0 < len(ids) <= self.generation.batch or not ids.shape[1]:
            raise InputError(
                f"input_ids has shape {ids.shape}; give (rows, tokens) with 1 to {self.generation.batch} rows, for which the "
                "model was compiled, and a token or more"
            )
        mask = np.ones_like(ids) if attention_mask is None else _array("attention_mask", attention_mask)
        if mask.shape != ids.shape or not np.isin(mask, (0, 1)).all():
            raise InputError(f"attention_mask has shape {mask.shape}; give ones and zeros, one for each of input_ids {ids.shape}")
        return ids, mask

    def _filled(self, array: Array) -> Array:
        """Rows of a call, the last of them again where fewer prompts were given than it was compiled for."""
        return np.concatenate([array, *[array[-1:]] * (self.generation.batch - len(array))])

    def _empty_cache(self) -> list[Array]:
        specs = [spec for spec in self["decode"].inputs if spec.name.startswith("cache_")]
        cache = [empty_aligned(tuple(map(int, s.shape)), numpy_dtype(s.dtype)) for s in specs]
        for slots in cache:
            slots.fill(0)
        return cache


class CausalLM(LanguageModel):
    """A causal language model with entry points prefill and decode, as `compile_causal_lm` and `load` return it.

    Its cache has a fixed number of slots, `generation.length`: a prompt and its answer have at most as many tokens.
    """

    def _begin(self, ids: Array, mask: Array) -> tuple[Array, Decode]:
        length, pads, cache = ids.shape[1], self._filled((mask == 0).sum(1)), self._empty_cache()

        def decode(tokens: Array, count: int) -> Array:
            return self._step("decode", tokens, length + count - 1, pads, 0, cache)

        return self._prefill(ids, pads, cache), decode

    def _first(self, ids: Array) -> list[Array]:
        return [ids]

    def _slots(self, ids: Array) -> int:
        return int(ids.shape[1])

    def _given(self, input_ids: Any, attention_mask: Any) -> tuple[Array, Array]:
        ids, mask = super()._given(input_ids, attention_mask)
        if (np.diff(mask, axis=1) < 0).any() or not mask[:, -1].all():
            raise InputError(
                'attention_mask has padding behind tokens; pad prompts on the left (tokenizer.padding_side = "left")'
            )
        return ids, mask

    def _prefill(self, ids: Array, pads: Array, cache: list[Array]) -> Array:
        """Put a prompt into the cache, chunk by chunk, and return the logits behind its last token."""
        chunk, length = self.generation.chunk, ids.shape[1]
        logits = np.empty(0)
        for begin in range(0, length, chunk):
            start = min(begin, self.generation.length - chunk)  # the last chunk may repeat some tokens
            part = ids[:, start : start + chunk]
            tokens = np.pad(part, ((0, 0), (0, chunk - part.shape[1])))
            logits = self._step("prefill", self._filled(tokens), start, pads, part.shape[1] - 1, cache)
        return logits

    def _step(self, name: str, tokens: Array, start: int, pads: Array, last: int, cache: list[Array]) -> Array:
        place, wanted = np.array(start, np.int64), np.array([last], np.int64)
        logits: Array = self[name].flat(tokens, place, pads, wanted, *cache)[0]
        return logits.astype(np.float32, copy=False)


class Seq2SeqLM(LanguageModel):
    """A language model with an encoder and a decoder, as `compile_seq2seq_lm` and `load` return it.

    It has entry points encode and decode. A source text has at most `generation.source` tokens, an answer `generation.length`.
    """

    def _begin(self, ids: Array, mask: Array) -> tuple[Array, Decode]:
        behind = ((0, 0), (0, self.generation.source - ids.shape[1]))
        sources, masks = (self._filled(np.pad(array, behind)) for array in (ids, mask))
        crossed, cache = self["encode"].flat(sources, masks), self._empty_cache()

        def decode(tokens: Array, count: int) -> Array:
            logits: Array = self["decode"].flat(tokens, np.array(count, np.int64), masks, *crossed, *cache)[0]
            return logits.astype(np.float32, copy=False)

        return decode(self._filled(self._first(ids)[0]), 0), decode

    def _first(self, ids: Array) -> list[Array]:
        return [np.full((len(ids), 1), self.generation.first, np.int64)]

    def _slots(self, ids: Array) -> int:
        return 0

    def _too_long(self, ids: Array, wanted: int) -> str:
        return f"max_new_tokens is {wanted}; the cache has {self.generation.length} slots: compile with a larger max_length"

    def _given(self, input_ids: Any, attention_mask: Any) -> tuple[Array, Array]:
        ids, mask = super()._given(input_ids, attention_mask)
        if ids.shape[1] > self.generation.source:
            raise InputError(
                f"a source text of {ids.shape[1]} tokens was given; the model was compiled for {self.generation.source}: compile "
                "with a larger max_source"
            )
        if not mask.any(1).all():
            raise InputError("attention_mask has a row without a token; give a token or more")
        return ids, mask


def module_class(facts: ModuleMetadata) -> type[CompiledModule]:
    """Return the class of a module: CausalLM or Seq2SeqLM for a language model that generates, else CompiledModule."""
    if facts.generation is None:
        return CompiledModule
    return Seq2SeqLM if facts.generation.source else CausalLM


def most_probable(logits: Array) -> Array:
    """Return the most probable token of each row of logits (B, V)."""
    tokens: Array = logits.argmax(-1)
    return tokens


def _listener(streamer: Any, given: Any, begin: Array) -> tuple[Callable[[Array], Any], Callable[[], Any]]:
    """Return what takes each new token and what is called at the end; `begin` (B, T) stands before the first one."""
    if streamer is None or (callable(streamer) and not hasattr(streamer, "put")):
        return streamer or _nothing, _nothing
    if not (hasattr(streamer, "put") and hasattr(streamer, "end")):
        raise InputError(
            f"streamer is {type(streamer).__name__}; give a callable that takes the new token of each row, or a streamer of "
            "transformers"
        )
    streamer.put(_like(given, begin))
    return lambda token: streamer.put(_like(given, token)), streamer.end


def _nothing(*_: Any) -> None:
    """Take what nobody wants."""


def _array(name: str, value: Any) -> Array:
    array = value.detach().cpu().numpy() if is_torch(value) else value
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "bui":
        given = getattr(array, "dtype", type(value).__name__)
        raise InputError(f"{name} is {given}; give integers in a torch tensor or a NumPy array")
    integers: Array = array.astype(np.int64)
    return integers


def _like(given: Any, array: Array) -> Any:
    if not is_torch(given):
        return array
    return sys.modules["torch"].from_numpy(array).to(given.device)
