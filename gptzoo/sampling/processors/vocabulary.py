"""The bytes of each token of a vocabulary, and the check of token ids in options."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError


@lru_cache(maxsize=8)
def token_bytes(tokenizer: Tokenizer) -> tuple[bytes, ...]:
    """Return the bytes of each token by id. They are empty for special tokens such as the end-of-text token."""
    return tuple(tokenizer.decode_bytes([token]) for token in range(tokenizer.vocab_size))


def check_token_ids(ids: Iterable[int], vocab_size: int, processor: str) -> None:
    """Raise InputError for a token id in the options of `processor` that the model does not have."""
    if (largest := max(ids, default=0)) >= vocab_size:
        raise InputError(
            f"logits_processor {processor!r}: token id {largest} is outside the model's vocabulary of {vocab_size} "
            "tokens"
        )
