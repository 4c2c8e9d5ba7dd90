"""Log-probabilities in the format of OpenAI's completions API."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from gptzoo.data.tokenizers.tokenizer import Tokenizer


class _Entry(NamedTuple):
    """The log-probability of one token, and of the most likely tokens at its position, by text."""

    text: str
    log_probability: float | None
    top_logprobs: dict[str, float] | None
    offset: int  # in characters


class LogProbsOfChoice(Protocol):
    """The `logprobs` object of one choice, in the format of one of OpenAI's endpoints."""

    def __init__(self, tokenizer: Tokenizer, n_top: int): ...

    def add(self, token: int, log_probability: float | None, top_logprobs: Mapping[int, float]) -> None:
        """Add a token with its log-probability in nats, and those of the most likely tokens."""

    def end_text(self) -> None:
        """End the text so far, so that the next token starts a character."""

    def take_new(self) -> dict[str, Any]:
        """Return the entries that were added since the last call."""

    def all(self) -> dict[str, Any]:
        """Return all entries."""


class LogProbs:
    """The `logprobs` object of one choice: four lists with one entry per token.

    A token's offset is the index of the character that its first byte belongs to. So all parts of a split character
    have the same offset.
    """

    def __init__(self, tokenizer: Tokenizer, n_top: int):
        self.tokenizer, self.n_top = tokenizer, n_top
        self.entries: list[_Entry] = []
        self.utf8_decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.n_characters = 0  # complete characters so far
        self.n_returned = 0

    def add(self, token: int, log_probability: float | None, top_logprobs: Mapping[int, float]) -> None:
        """Add a token with its log-probability in nats. The first token of a text has none.

        As in OpenAI's API, the top log-probabilities include the token itself.
        """
        data = token_bytes_of(self.tokenizer, token)
        text = token_text(data)
        top_by_text: dict[str, float] | None = None
        if log_probability is not None and self.n_top:
            top_by_text = {}
            for top_token, value in top_logprobs.items():  # the most likely first, which is kept for each text
                top_by_text.setdefault(token_text(token_bytes_of(self.tokenizer, top_token)), value)
            top_by_text.setdefault(text, log_probability)
        self.entries.append(_Entry(text, log_probability, top_by_text, self._advance(data)))

    def end_text(self) -> None:
        """End the text so far, so that the next token starts a character. An incomplete one counts as U+FFFD."""
        self.n_characters += len(self.utf8_decoder.decode(b"", final=True))

    def take_new(self) -> dict[str, Any]:
        """Return the entries that were added since the last call."""
        start, self.n_returned = self.n_returned, len(self.entries)
        return _as_lists(self.entries[start:])

    def all(self) -> dict[str, Any]:
        """Return all entries."""
        return _as_lists(self.entries)

    def _advance(self, data: bytes) -> int:
        """Decode the bytes of a token and return its offset."""
        self.n_characters += len(self.utf8_decoder.decode(data[:1]))
        n_incomplete = int(bool(self.utf8_decoder.getstate()[0]))
        offset = self.n_characters + n_incomplete - 1 if data else self.n_characters
        self.n_characters += len(self.utf8_decoder.decode(data[1:]))
        return offset


def token_bytes_of(tokenizer: Tokenizer, token: int) -> bytes:
    """Return the bytes of a token. A spare id of the model, which a client may use as a stop token, has none."""
    return tokenizer.decode_bytes([token]) if token < tokenizer.vocab_size else b""


def token_text(data: bytes) -> str:
    """Return the text of a token. A part of a character is `bytes:\\xe2`, as in OpenAI's API."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _as_lists(entries: Sequence[_Entry]) -> dict[str, Any]:
    return {
        "tokens": [entry.text for entry in entries],
        "token_logprobs": [entry.log_probability for entry in entries],
        "top_logprobs": [entry.top_logprobs for entry in entries],
        "text_offset": [entry.offset for entry in entries],
    }
