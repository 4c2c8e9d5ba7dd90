"""The ids of a vocabulary and what each stands for: what processors that name tokens or look at text need to know."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError


@lru_cache(maxsize=8)
def pieces(tokenizer: Tokenizer) -> tuple[bytes, ...]:
    """The bytes of each token, by id; none for a token that stands for no text, such as the one that ends it."""
    return tuple(tokenizer.decode_bytes([token]) for token in range(tokenizer.vocab_size))


def check_ids(ids: Iterable[int], vocab_size: int, processor: str) -> None:
    """Raise InputError for an id that the model does not have."""
    if (largest := max(ids, default=0)) >= vocab_size:
        raise InputError(
            f"logits_processor {processor!r}: token id {largest} is outside the model's vocabulary of {vocab_size}"
        )
