"""Incremental detokenization: `TextStream` turns token events into text, and finally into a `Sample`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from gptzoo.data.tokenizers.tokenizer import StreamDecoder, Tokenizer
from gptzoo.data.utf8 import encode_utf8
from gptzoo.sampling.events import FinishReason, TokenEvent
from gptzoo.sampling.spec import SamplingSpec


@dataclass(frozen=True)
class Sample:
    """A finished text."""

    text: str  # without the prompt and without the stop string that ended it
    tokens: tuple[int, ...]  # without the prompt and without the stop token that ended it
    log_probabilities: tuple[float, ...]  # of each token, in nats, under the model itself
    log_probability: float  # their sum, including the stop token
    finish_reason: FinishReason
    stop_token: int | None = None  # the stop token that ended the text
    stop_log_probability: float | None = None  # that of the stop token, in nats
    seconds: float = field(default=0.0, compare=False)  # from the start to the last token
    seconds_to_first: float = field(default=0.0, compare=False)  # from the start to the first token

    @property
    def mean_log_probability(self) -> float:
        """The mean log-probability per token, including the stop token. Best-of-n ranks samples by it."""
        return self.log_probability / max(1, len(self.tokens) + (self.finish_reason == "stop_token"))


class StopDecoder(StreamDecoder):
    """An incremental decoder that ends at the first stop string.

    It holds back incomplete characters and anything that may turn out to be the start of a stop string. If stop strings
    overlap, the one that is complete first counts, however the text is split into tokens.
    """

    def __init__(self, tokenizer: Tokenizer, stop_texts: Iterable[str] = ()):
        super().__init__(tokenizer)
        self.stop_texts = [encode_utf8(text) for text in stop_texts]
        self.held_back = b""  # a possible start of a stop string
        self.stopped = False

    def feed(self, token: int) -> str:
        if self.stopped:
            return ""
        data = self.held_back + self.tokenizer.decode_bytes([token])
        matches = [(start + len(text), start) for text in self.stop_texts if (start := data.find(text)) >= 0]
        if matches:
            self.stopped, self.held_back = True, b""
            _, start = min(matches)
            return self.utf8_decoder.decode(data[:start])
        n_held_back = max((_overlap(data, text) for text in self.stop_texts), default=0)
        self.held_back = data[len(data) - n_held_back :]
        return self.utf8_decoder.decode(data[: len(data) - n_held_back])

    def flush(self) -> str:
        """Return the text held back at the end, with U+FFFD for an incomplete character."""
        held_back, self.held_back = self.held_back, b""
        return self.utf8_decoder.decode(held_back, final=True)


def _overlap(end: bytes, start: bytes) -> int:
    """Return the length of the longest suffix of `end` that is a proper prefix of `start`."""
    return next(n for n in range(min(len(end), len(start) - 1), -1, -1) if end.endswith(start[:n]))


class TextStream:
    """The text of one sequence while it is generated. It collects events and returns text as soon as it is final."""

    def __init__(self, tokenizer: Tokenizer, spec: SamplingSpec):
        self.decoder = StopDecoder(tokenizer, spec.stop_texts)
        self.text = ""
        self.events: list[TokenEvent] = []
        self.finish_reason: FinishReason = "finished" if spec.max_new_tokens else "length"  # without any event
        self.times = [time.perf_counter()]  # of the start and of each event

    def feed(self, event: TokenEvent) -> str:
        """Add a generated token and return the new text that is final: whole characters, no stop string."""
        assert event.token is not None
        self.events.append(event)
        self.times.append(time.perf_counter())
        piece = "" if event.finish_reason == "stop_token" else self.decoder.feed(event.token)
        if event.finish_reason is not None:
            self.finish_reason = event.finish_reason
            piece += self.decoder.flush()
        self.text += piece
        return piece

    def sample(self) -> Sample:
        """Return the finished text."""
        kept = [event for event in self.events if event.finish_reason != "stop_token"]
        stop = self.events[-1] if len(kept) < len(self.events) else None
        return Sample(
            text=self.text,
            tokens=tuple(event.token for event in kept if event.token is not None),
            log_probabilities=tuple(event.log_probability for event in kept),
            log_probability=sum(event.log_probability for event in self.events),
            finish_reason=self.finish_reason,
            stop_token=None if stop is None else stop.token,
            stop_log_probability=None if stop is None else stop.log_probability,
            seconds=self.times[-1] - self.times[0],
            seconds_to_first=self.times[min(1, len(self.events))] - self.times[0],
        )
