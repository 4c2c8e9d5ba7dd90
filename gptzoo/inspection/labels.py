"""Tokens as they can be shown: white space and parts of characters are made visible."""

from __future__ import annotations

from collections.abc import Sequence

from gptzoo.data.tokenizers.tokenizer import Tokenizer

_VISIBLE = str.maketrans({" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"})


def labels_of(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, ...]:
    """One label for each id: a space is `·`, a newline `⏎`, a byte of a character `\\xe6`, and no text `<257>`."""
    return tuple(_label(tokenizer, token) for token in ids)


def _label(tokenizer: Tokenizer, token: int) -> str:
    data = tokenizer.decode_bytes([token]) if token < tokenizer.vocab_size else b""
    text = data.decode("utf-8", errors="backslashreplace").translate(_VISIBLE)
    shown = (character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return "".join(shown) or f"<{token}>"
