"""What a compiled language model needs to know to generate text."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Generation:
    """How a language model was compiled.

    Parameters
    ----------
    length : int
        Slots of the cache.
    batch : int
        Rows of a call.
    chunk : int
        Tokens of a call of prefill.
    ends : tuple of int
        Tokens that end a text.
    pad : int
        The token behind the end of a text that is shorter than others.
    source : int
        Tokens of a source text, if it is a model with an encoder, else 0.
    first : int
        The token that such a model's answers begin with.
    """

    length: int
    batch: int
    chunk: int
    ends: tuple[int, ...]
    pad: int
    source: int = 0
    first: int = 0
