"""Log-probabilities as OpenAI's completions show them: by the text of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gptzoo.data.tokenizers.tokenizer import Tokenizer


class _Entry(NamedTuple):
    text: str
    log_probability: float | None
    likeliest: dict[str, float] | None
    offset: int  # characters of text before it


class LogProbs:
    """Four lists with one entry a token: what `logprobs` of a choice holds."""

    def __init__(self, tokenizer: Tokenizer, n_likeliest: int):
        self.tokenizer, self.n_likeliest = tokenizer, n_likeliest
        self.entries: list[_Entry] = []
        self.offset = 0
        self.n_told = 0

    def add(self, token: int, log_probability: float | None, likeliest: Mapping[int, float]) -> None:
        """In nats; the first token of all has none. As at OpenAI, the token itself is told among the likeliest."""
        text, length = self._shown(token)
        shown: dict[str, float] | None = None
        if log_probability is not None and self.n_likeliest:
            shown = {}
            for other, value in likeliest.items():
                shown.setdefault(self._shown(other)[0], value)  # of ids for the same text the likeliest
            shown.setdefault(text, log_probability)
        self.entries.append(_Entry(text, log_probability, shown, self.offset))
        self.offset += length

    def since(self) -> dict[str, Any]:
        """Those that were not told yet."""
        told, self.n_told = self.n_told, len(self.entries)
        return _lists(self.entries[told:])

    def all(self) -> dict[str, Any]:
        return _lists(self.entries)

    def _shown(self, token: int) -> tuple[str, int]:
        """The text of a token and its length; `bytes:\\xe2` and 0 for a part of a character, as at OpenAI."""
        piece = self.tokenizer.decode_bytes([token])
        try:
            return piece.decode(), len(piece.decode())
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece), 0


def _lists(entries: Sequence[_Entry]) -> dict[str, Any]:
    return {
        "tokens": [entry.text for entry in entries],
        "token_logprobs": [entry.log_probability for entry in entries],
        "top_logprobs": [entry.likeliest for entry in entries],
        "text_offset": [entry.offset for entry in entries],
    }
