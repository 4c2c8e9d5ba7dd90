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

    text: str  # without the prompt, and without the stop string that ended it unless the spec includes it
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

    n_min: number of tokens that complete no stop string.
    include_stop_text: return the stop string as well. Then no start of a stop string is held back.
    """

    def __init__(
        self, tokenizer: Tokenizer, stop_texts: Iterable[str] = (), n_min: int = 0, include_stop_text: bool = False
    ):
        super().__init__(tokenizer)
        self.stop_texts = [encode_utf8(text) for text in stop_texts]
        self.n_min, self.include_stop_text = n_min, include_stop_text
        self.n_tokens = 0
        self.partial_stop = b""  # the last bytes, which may be the start of a stop string
        self.stopped = False

    def feed(self, token: int) -> str:
        if self.stopped:
            return ""
        self.n_tokens += 1
        data = self.partial_stop + self.tokenizer.decode_bytes([token])
        n_returned = len(self.partial_stop) if self.include_stop_text else 0
        if (match := self._find_stop(data)) is not None:
            self.stopped, self.partial_stop = True, b""
            start, end = match
            return self.utf8_decoder.decode(data[n_returned : end if self.include_stop_text else start])
        n_partial = max((_overlap(data, text) for text in self.stop_texts), default=0)
        self.partial_stop = data[len(data) - n_partial :]
        return self.utf8_decoder.decode(data[n_returned : None if self.include_stop_text else len(data) - n_partial])

    def _find_stop(self, data: bytes) -> tuple[int, int] | None:
        """Return start and end of the stop string that the last token completes first, or None."""
        if self.n_tokens <= self.n_min:
            return None
        n_before = len(self.partial_stop)  # a stop string that ends there was complete before `n_min`
        starts = [(data.find(text, max(0, n_before - len(text) + 1)), len(text)) for text in self.stop_texts]
        matches = [(start + length, start) for start, length in starts if start >= 0]
        return min(matches)[::-1] if matches else None

    def flush(self) -> str:
        """Return the text held back at the end, with U+FFFD for an incomplete character."""
        held_back, self.partial_stop = b"" if self.include_stop_text else self.partial_stop, b""
        return self.utf8_decoder.decode(held_back, final=True)


def _overlap(end: bytes, start: bytes) -> int:
    """Return the length of the longest suffix of `end` that is a proper prefix of `start`."""
    return next(n for n in range(min(len(end), len(start) - 1), -1, -1) if end.endswith(start[:n]))


class TextStream:
    """The text of one sequence while it is generated. It collects events and returns text as soon as it is final."""

    def __init__(self, tokenizer: Tokenizer, spec: SamplingSpec):
        self.decoder = StopDecoder(tokenizer, spec.stop_texts, spec.min_new_tokens, spec.include_stop_text)
        self.include_stop_text = spec.include_stop_text
        self.text = ""
        self.events: list[TokenEvent] = []
        self.finish_reason: FinishReason = "finished" if spec.max_new_tokens else "length"  # without any event
        self.times = [time.perf_counter()]  # of the start and of each event

    def feed(self, event: TokenEvent) -> str:
        """Add a generated token and return the new text that is final: whole characters, none of a possible stop."""
        assert event.token is not None
        self.events.append(event)
        self.times.append(time.perf_counter())
        is_excluded = event.finish_reason == "stop_token" and not self.include_stop_text
        piece = "" if is_excluded else self.decoder.feed(event.token)
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
