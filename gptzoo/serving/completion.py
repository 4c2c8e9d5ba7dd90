"""`Completion`, the OpenAI JSON of one HTTP request, built from its token events, as one object or as a stream."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError, LogitsError, ProcessorError
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.score import ScoredToken
from gptzoo.sampling.text_stream import TextStream
from gptzoo.serving.errors import RequestError
from gptzoo.serving.logprobs import LogProbs, LogProbsOfChoice
from gptzoo.serving.protocol import CompletionRequest
from gptzoo.serving.scheduler import QueuedRequest, Scheduler

_log = logging.getLogger(__name__)

# OpenAI's finish reasons, by gptzoo's.
_FINISH_REASONS = {"stop_token": "stop", "stop_text": "stop", "finished": "stop", "length": "length"}


class Completion:
    """The response to one HTTP request. It lives on the event loop.

    `requests` are those of the prompts in the body, in order. Subclasses change the form of the JSON.
    """

    id_prefix: ClassVar[str] = "cmpl"
    object_type: ClassVar[str] = "text_completion"
    chunk_type: ClassVar[str] = "text_completion"
    log_probs: ClassVar[type[LogProbsOfChoice]] = LogProbs

    def __init__(
        self, body: CompletionRequest, requests: Sequence[QueuedRequest], tokenizer: Tokenizer, model_name: str
    ):
        self.body, self.requests = body, requests
        self.header = {
            "id": f"{self.id_prefix}-{secrets.token_hex(12)}",
            "object": self.object_type,
            "created": int(time.time()),
            "model": model_name,
        }
        n = body.n_samples
        self.choices = [
            _Choice(i * n + s, queued, body, tokenizer, self.log_probs)
            for i, queued in enumerate(requests)
            for s in range(n)
        ]
        self.n_open = len(self.choices)
        self.chunks: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()  # None marks the end
        self.done = asyncio.Event()
        self.failure: RequestError | None = None
        self.request_ids: list[int] = []

    def submit(self, scheduler: Scheduler) -> None:
        """Submit the requests to the scheduler. Raises RequestError (429) if its queue is full."""
        loop = asyncio.get_running_loop()

        def on_event_loop(function: Callable[..., None], index: int) -> Callable[..., object]:
            return partial(loop.call_soon_threadsafe, partial(self._guarded, function, index))

        for index, queued in enumerate(self.requests):
            queued.on_event = on_event_loop(self._add_event, index)
            queued.on_prompt_scores = on_event_loop(self._add_prompt_scores, index)
        self.request_ids = scheduler.submit(self.requests)

    def _guarded(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function on the event loop. An exception becomes the failure of this request."""
        try:
            function(*arguments)
        except Exception as error:  # the event loop would only log it, and the client would wait forever
            _log.exception("a response failed")
            self.failure = as_request_error(error)
            self._finish()

    def _add_prompt_scores(self, request_index: int, scores: Sequence[ScoredToken]) -> None:
        first = request_index * self.body.n_samples
        for choice in self.choices[first : first + self.body.n_samples]:
            choice.add_prompt_scores(scores)

    def _add_event(self, request_index: int, event: TokenEvent) -> None:
        if self.done.is_set():
            return
        if event.error is not None:
            self.failure = as_request_error(event.error)
            self._finish()
            return
        choice = self.choices[request_index * self.body.n_samples + event.sample]
        is_first = not choice.started
        chunk = choice.add_event(event)
        if self.body.stream and chunk is not None:
            self.chunks.put_nowait(self._chunk(choice, self.chunk_json(chunk, is_first=is_first)))
        if choice.finish_reason is not None:
            self.n_open -= 1
            if self.n_open == 0:
                self._finish()

    def _finish(self) -> None:
        self.done.set()
        self.chunks.put_nowait(None)

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        """Yield chunks as they become available. Raises RequestError if the request fails on the way."""
        while (chunk := await self.chunks.get()) is not None:
            yield chunk
        if self.failure is not None:
            raise self.failure
        if self.includes_usage:
            yield {**self._response([]), "object": self.chunk_type, "usage": self._usage(self.choices)}

    def response(self) -> dict[str, Any]:
        """Return the complete response, once it is done. Raises RequestError if the request failed."""
        if self.failure is not None:
            raise self.failure
        n_samples, n = self.body.n_samples, self.body.n
        kept: list[_Choice] = []
        for start in range(0, len(self.choices), n_samples):
            samples = self.choices[start : start + n_samples]
            if n < n_samples:
                samples = sorted(samples, key=lambda choice: -choice.text.sample().mean_log_probability)[:n]
            kept += samples
        choices = [self.choice_json(choice.as_json(index)) for index, choice in enumerate(kept)]
        return {**self._response(choices), "usage": self._usage(self.choices)}

    def choice_json(self, choice: dict[str, Any]) -> dict[str, Any]:
        """Return the form that a finished choice has in the response."""
        return choice

    def chunk_json(self, choice: dict[str, Any], *, is_first: bool) -> dict[str, Any]:
        """Return the form that the next piece of a choice has in a chunk."""
        return choice

    @property
    def includes_usage(self) -> bool:
        """True if the stream has numbers of tokens. Then all chunks have the field."""
        return self.body.stream_options is not None and bool(self.body.stream_options.include_usage)

    def _chunk(self, choice: _Choice, new: dict[str, Any]) -> dict[str, Any]:
        """Return the next chunk of a stream, given what is new of a choice."""
        response = {**self._response([new]), "object": self.chunk_type}
        if not self.includes_usage:
            return response
        assert self.body.stream_options is not None
        # As in vLLM, these are the tokens of the text in this chunk, not of all texts.
        usage = self._usage([choice]) if self.body.stream_options.continuous_usage_stats else None
        return {**response, "usage": usage}

    def _response(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self.header, "choices": choices}

    def _usage(self, choices: Sequence[_Choice]) -> dict[str, int]:
        """Return the number of tokens of some choices. A prompt counts once."""
        prompts = {choice.index // self.body.n_samples: choice.n_prompt for choice in choices}
        n_prompt = sum(prompts.values())
        n_new = sum(len(choice.text.events) for choice in choices)
        return {"prompt_tokens": n_prompt, "completion_tokens": n_new, "total_tokens": n_prompt + n_new}


class _Choice:
    """One sample of one prompt."""

    def __init__(
        self,
        index: int,
        queued: QueuedRequest,
        body: CompletionRequest,
        tokenizer: Tokenizer,
        log_probs: type[LogProbsOfChoice],
    ):
        self.index = index
        self.n_prompt = len(queued.request.prompt_ids)
        self.include_stop_text = queued.request.spec.include_stop_text
        self.text = TextStream(tokenizer, queued.request.spec)
        self.echo = tokenizer.decode(queued.request.prompt_ids) if body.echo else ""
        self.logprobs = None if body.logprobs is None else log_probs(tokenizer, body.logprobs)
        self.finish_reason: str | None = None
        self.started = False

    def add_prompt_scores(self, scores: Sequence[ScoredToken]) -> None:
        if self.logprobs is not None:
            for token, log_probability, top_logprobs in scores:
                self.logprobs.add(token, log_probability, top_logprobs)
            self.logprobs.end_text()  # prompt and new text are decoded separately

    def add_event(self, event: TokenEvent) -> dict[str, Any] | None:
        """Add an event and return the chunk to stream, or None if no text is final yet."""
        text = ""
        if event.token is not None:
            text = self.text.feed(event)
            if self.logprobs is not None:
                if event.finish_reason == "stop_token" and not self.include_stop_text:
                    self.logprobs.end_text()  # a stop token is listed, but it is not part of the text
                self.logprobs.add(event.token, event.log_probability, event.top_logprobs)
        if event.finish_reason is not None:
            self.finish_reason = _FINISH_REASONS[event.finish_reason]
        if not self.started:
            text, self.started = self.echo + text, True
        if not text and self.finish_reason is None:
            return None
        logprobs = None if self.logprobs is None else self.logprobs.take_new()
        return {"index": self.index, "text": text, "logprobs": logprobs, "finish_reason": self.finish_reason}

    def as_json(self, index: int) -> dict[str, Any]:
        """Return the finished choice with another index."""
        logprobs = None if self.logprobs is None else self.logprobs.all()
        text = self.echo + self.text.text
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": self.finish_reason}


def as_request_error(error: Exception) -> RequestError:
    """Return the error response to an exception of the model or of a request."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, LogitsError | ProcessorError):
        return RequestError(500, str(error))
    if isinstance(error, InputError):
        return RequestError(400, str(error))
    return RequestError(500, "the model failed on this request. See the server's log.")
