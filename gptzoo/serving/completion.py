"""One request on its way: what the model's thread chooses becomes OpenAI's JSON, at once or piece by piece."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.text import Writing
from gptzoo.serving.errors import RequestError
from gptzoo.serving.logprobs import LogProbs
from gptzoo.serving.protocol import CompletionRequest
from gptzoo.serving.worker import Job, PromptToken, Taken, Worker

_FINISH = {"stop_token": "stop", "stop_text": "stop", "finished": "stop", "length": "length"}


class Completion:
    """What one request gets. It lives on the event loop, and hands its jobs to the worker."""

    def __init__(self, asked: CompletionRequest, jobs: Sequence[Job], tokenizer: Tokenizer, name: str):
        """`jobs` are of the prompts, in order."""
        self.asked, self.jobs = asked, jobs
        self.head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": name,
        }
        n = asked.n_samples
        self.texts = [_Text(i * n + s, job, asked, tokenizer) for i, job in enumerate(jobs) for s in range(n)]
        self.n_open = len(self.texts)
        self.pieces: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()  # None is the end
        self.done = asyncio.Event()
        self.failure: RequestError | None = None
        self.numbers: list[int] = []

    def submit(self, worker: Worker) -> None:
        """Raises RequestError (429) where the worker has no room for it."""
        loop = asyncio.get_running_loop()
        for index, job in enumerate(self.jobs):
            job.take = partial(loop.call_soon_threadsafe, partial(self._take, index))
        self.numbers = worker.submit(self.jobs)

    def _take(self, job: int, taken: Taken) -> None:
        if self.done.is_set():
            return
        if taken.error is not None:
            self.failure = _as_request_error(taken.error)
            self._end()
            return
        first = job * self.asked.n_samples
        for text in self.texts[first : first + self.asked.n_samples] if taken.prompt else ():
            text.take_prompt(taken.prompt)
        if taken.choice is None and taken.end is None:
            return
        text = self.texts[first + taken.sample]
        piece = text.take(taken)
        if self.asked.stream and piece is not None:
            self.pieces.put_nowait(self._chunk([piece]))
        if text.finish_reason is not None:
            self.n_open -= 1
            if self.n_open == 0:
                self._end()

    def _end(self) -> None:
        self.done.set()
        self.pieces.put_nowait(None)

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        """The pieces as they come. Raises RequestError when it fails on its way."""
        while (piece := await self.pieces.get()) is not None:
            yield piece
        if self.failure is not None:
            raise self.failure
        if self.asked.stream_options is not None and self.asked.stream_options.include_usage:
            yield {**self._chunk([]), "usage": self._usage()}

    def answer(self) -> dict[str, Any]:
        """The whole of it, once it is done. Raises RequestError if it failed."""
        if self.failure is not None:
            raise self.failure
        n_samples, n = self.asked.n_samples, self.asked.n
        chosen: list[_Text] = []
        for start in range(0, len(self.texts), n_samples):
            texts = self.texts[start : start + n_samples]
            if n < n_samples:
                texts = sorted(texts, key=lambda text: -text.writing.sample().mean_log_probability)[:n]
            chosen += texts
        return {**self._chunk([text.whole(index) for index, text in enumerate(chosen)]), "usage": self._usage()}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self.head, "choices": choices}

    def _usage(self) -> dict[str, int]:
        read = sum(len(job.request.tokens) for job in self.jobs)
        written = sum(len(text.writing.choices) for text in self.texts)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


class _Text:
    """One sample of one prompt."""

    def __init__(self, index: int, job: Job, asked: CompletionRequest, tokenizer: Tokenizer):
        self.index = index
        self.writing = Writing(tokenizer, job.request.spec)
        self.echo = tokenizer.decode(job.request.tokens) if asked.echo else ""
        self.logprobs = None if asked.logprobs is None else LogProbs(tokenizer, asked.logprobs)
        self.finish_reason: str | None = None
        self.begun = False

    def take_prompt(self, tokens: Sequence[PromptToken]) -> None:
        if self.logprobs is not None:
            for token, log_probability, likeliest in tokens:
                self.logprobs.add(token, log_probability, likeliest)

    def take(self, taken: Taken) -> dict[str, Any] | None:
        """What a stream tells of it: nothing, where no text is certain yet."""
        choice, text = taken.choice, ""
        end = taken.end if choice is None else choice.end
        if choice is not None:
            text = self.writing.feed(choice)
            if self.logprobs is not None and end != "stop_token":
                self.logprobs.add(choice.token, choice.log_probability, choice.likeliest)
        if end is not None:
            self.finish_reason = _FINISH[end]
        if not self.begun:
            text, self.begun = self.echo + text, True
        if not text and self.finish_reason is None:
            return None
        logprobs = None if self.logprobs is None else self.logprobs.since()
        return {"index": self.index, "text": text, "logprobs": logprobs, "finish_reason": self.finish_reason}

    def whole(self, index: int) -> dict[str, Any]:
        logprobs = None if self.logprobs is None else self.logprobs.all()
        text = self.echo + self.writing.text
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": self.finish_reason}


def _as_request_error(error: Exception) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, InputError):
        return RequestError(400, str(error))
    return RequestError(500, "the model failed on this request; the server's log says how")
