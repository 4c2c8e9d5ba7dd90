"""`ChatCompletion`, the response to one chat request, and log-probabilities in the format of OpenAI's chat API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.serving.completion import Completion
from gptzoo.serving.logprobs import token_bytes_of, token_text


class ChatLogProbs:
    """The `logprobs` object of one answer: a list with one entry per token."""

    def __init__(self, tokenizer: Tokenizer, n_top: int):
        self.tokenizer, self.n_top = tokenizer, n_top
        self.entries: list[dict[str, Any]] = []
        self.n_returned = 0

    def add(self, token: int, log_probability: float | None, top_logprobs: Mapping[int, float]) -> None:
        """Add a token with its log-probability in nats, and those of the most likely tokens."""
        top = [self._entry(*item) for item in list(top_logprobs.items())[: self.n_top]]
        self.entries.append({**self._entry(token, log_probability), "top_logprobs": top})

    def end_text(self) -> None:
        """Do nothing: entries have no place in the text."""

    def take_new(self) -> dict[str, Any]:
        """Return the entries that were added since the last call."""
        start, self.n_returned = self.n_returned, len(self.entries)
        return {"content": self.entries[start:], "refusal": None}

    def all(self) -> dict[str, Any]:
        """Return all entries."""
        return {"content": self.entries, "refusal": None}

    def _entry(self, token: int, log_probability: float | None) -> dict[str, Any]:
        data = token_bytes_of(self.tokenizer, token)
        return {"token": token_text(data), "logprob": log_probability, "bytes": list(data)}


class ChatCompletion(Completion):
    """The response to one chat request."""

    id_prefix = "chatcmpl"
    object_type = "chat.completion"
    chunk_type = "chat.completion.chunk"
    log_probs = ChatLogProbs

    def choice_json(self, choice: dict[str, Any]) -> dict[str, Any]:
        text = choice.pop("text")
        return {**choice, "message": {"role": "assistant", "content": text, "refusal": None}}

    def chunk_json(self, choice: dict[str, Any], *, is_first: bool) -> dict[str, Any]:
        text = choice.pop("text")
        delta: dict[str, Any] = {"role": "assistant"} if is_first else {}
        if text or is_first:
            delta["content"] = text
        return {**choice, "delta": delta}
