"""Log-probabilities in the format of OpenAI's completions API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gptzoo.data.tokenizers.tokenizer import Tokenizer


class _Entry(NamedTuple):
    """The log-probability of one token, and of the most likely tokens at its position, by text."""

    text: str
    log_probability: float | None
    top_logprobs: dict[str, float] | None
    offset: int  # in characters


class LogProbs:
    """The `logprobs` object of one choice: four lists with one entry per token."""

    def __init__(self, tokenizer: Tokenizer, n_top: int):
        self.tokenizer, self.n_top = tokenizer, n_top
        self.entries: list[_Entry] = []
        self.offset = 0
        self.n_returned = 0

    def add(self, token: int, log_probability: float | None, top_logprobs: Mapping[int, float]) -> None:
        """Add a token with its log-probability in nats. The first token of a text has none.

        As in OpenAI's API, the top log-probabilities include the token itself.
        """
        text, length = self._text_of(token)
        top_by_text: dict[str, float] | None = None
        if log_probability is not None and self.n_top:
            top_by_text = {}
            for top_token, value in top_logprobs.items():  # the most likely first, which is kept for each text
                top_by_text.setdefault(self._text_of(top_token)[0], value)
            top_by_text.setdefault(text, log_probability)
        self.entries.append(_Entry(text, log_probability, top_by_text, self.offset))
        self.offset += length

    def take_new(self) -> dict[str, Any]:
        """Return the entries that were added since the last call."""
        start, self.n_returned = self.n_returned, len(self.entries)
        return _as_lists(self.entries[start:])

    def all(self) -> dict[str, Any]:
        """Return all entries."""
        return _as_lists(self.entries)

    def _text_of(self, token: int) -> tuple[str, int]:
        """Return the text of a token and its length in characters.

        A token that is an incomplete character has the text `bytes:\\xe2` and length 0, as in OpenAI's API.
        """
        data = self.tokenizer.decode_bytes([token])
        try:
            return data.decode(), len(data.decode())
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data), 0


def _as_lists(entries: Sequence[_Entry]) -> dict[str, Any]:
    return {
        "tokens": [entry.text for entry in entries],
        "token_logprobs": [entry.log_probability for entry in entries],
        "top_logprobs": [entry.top_logprobs for entry in entries],
        "text_offset": [entry.offset for entry in entries],
    }
