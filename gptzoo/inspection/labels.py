"""Printable labels for tokens: whitespace and incomplete characters become visible."""

from __future__ import annotations

from collections.abc import Sequence

from gptzoo.data.tokenizers.tokenizer import Tokenizer

_VISIBLE = str.maketrans({" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"})


def token_labels(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, ...]:
    """Return one label per id: `·` for a space, `⏎` for a newline, `\\xe6` for a lone byte, `<257>` without text."""
    return tuple(_label(tokenizer, token) for token in ids)


def _label(tokenizer: Tokenizer, token: int) -> str:
    data = tokenizer.decode_bytes([token]) if token < tokenizer.vocab_size else b""
    text = data.decode("utf-8", errors="backslashreplace").translate(_VISIBLE)
    printable = (character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return "".join(printable) or f"<{token}>"
