"""The thread that owns the model: the engine writes as many texts at once as it has rows; all others wait in line."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import NamedTuple

from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.engine.stopping import End
from gptzoo.sampling.engine.token_choice import Choice
from gptzoo.sampling.request import Request
from gptzoo.serving.errors import RequestError

_log = logging.getLogger(__name__)


class PromptToken(NamedTuple):
    """A token of a prompt, how likely the model found it, in nats, and what it found likeliest; None for the first."""

    token: int
    log_probability: float | None
    top: Mapping[int, float]


class Taken(NamedTuple):
    """What has come of a job: a token of one of its samples or its end, all tokens of its prompt, or what failed."""

    sample: int = 0
    choice: Choice | None = None
    end: End | None = None  # of a sample that ends without a token
    prompt: Sequence[PromptToken] = ()
    error: Exception | None = None

    @property
    def ends(self) -> bool:
        """Whether no more of the sample will come."""
        return self.end is not None or (self.choice is not None and self.choice.end is not None)


@dataclass(eq=False)
class Job:
    """The samples of one prompt. `take` is called in the worker's thread."""

    request: Request
    take: Callable[[Taken], object] = field(default=lambda taken: None)
    prompt: Callable[[], Sequence[PromptToken]] | None = None
    """Makes the scores of the prompt, where they are asked for."""
    rows: Callable[[], Iterable[Iterable[Choice]]] | None = None
    """Another way to write than by the engine, such as beam search; a token of it goes with each step of the engine."""

    @property
    def n_samples(self) -> int:
        return self.request.n_samples

    def tokens(self) -> Iterator[Taken]:
        """What `rows` makes."""
        assert self.rows is not None
        found = -1
        for found, row in zip(range(self.n_samples), self.rows(), strict=False):
            choice = None
            for choice in row:
                yield Taken(found, choice)
            if choice is None:
                yield Taken(found, end="length")
        for missing in range(found + 1, self.n_samples):  # a search may find fewer
            yield Taken(missing, end="finished")


class Worker:
    """Runs jobs, in a `with` block. Jobs that are still open when it is left end with an error."""

    def __init__(self, engine: Engine, *, max_waiting: int = 64):
        """max_waiting: samples in the line, beside those that are being written."""
        self.engine, self.max_waiting = engine, max_waiting
        self.failure: BaseException | None = None
        self._open: dict[int, Job] = {}  # by the id of their request
        self._left: dict[int, int] = {}  # samples that have not ended
        self._new: list[int] = []
        self._cancelled: list[int] = []
        self._searches: dict[int, Iterator[Taken]] = {}
        self._ids = itertools.count()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="gptzoo-model", daemon=True)

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    @property
    def n_open(self) -> int:
        """Samples that wait or are being written."""
        return sum(self._left.values())

    def submit(self, jobs: Sequence[Job]) -> list[int]:
        """Queue jobs, all or none; numbers to cancel them by. Raises RequestError where there is no room for them."""
        wanted = sum(job.n_samples for job in jobs)
        with self._changed:
            if self.failure is not None or self._closing:
                raise RequestError(503, "the model does not run any more")
            if self.n_open + wanted > self.engine.n_rows + self.max_waiting:
                raise RequestError(
                    429,
                    f"{self.n_open} texts wait or are being written, and {wanted} more are over what this server "
                    "queues; try again later",
                    code="rate_limit_exceeded",
                )
            numbers = [next(self._ids) for _ in jobs]
            self._open |= dict(zip(numbers, jobs, strict=True))
            self._left |= {number: job.n_samples for number, job in zip(numbers, jobs, strict=True)}
            self._new += numbers
            self._changed.notify()
        return numbers

    def cancel(self, numbers: Iterable[int]) -> None:
        """Drop jobs; those that have ended are no matter."""
        with self._changed:
            self._cancelled += numbers
            self._changed.notify()

    def _run(self) -> None:
        try:
            while self._wait():
                self._step()
            self._fail_all(RequestError(503, "the server is closing"))
        except BaseException as failure:  # whatever it is, those who wait must hear of it
            self.failure = failure
            _log.exception("the model's thread ends")
            self._fail_all(RequestError(500, "the model failed; the server's log says how"))

    def _wait(self) -> bool:
        """Until there is something to do; False when it is time to end. Takes in what is new and what is cancelled."""
        with self._changed:
            while not (self._closing or self._new or self._cancelled or self.engine.busy or self._searches):
                self._changed.wait()
            new, self._new = self._new, []
            cancelled, self._cancelled = self._cancelled, []
            closing = self._closing
        for number in new:
            self._begin(number)
        for number in cancelled:
            if self._searches.pop(number, None) is None:
                self.engine.cancel(number)
            self._forget(number)
        return not closing

    def _begin(self, number: int) -> None:
        job = self._open[number]
        try:
            if job.prompt is not None:
                job.take(Taken(prompt=job.prompt()))
            if job.rows is not None:
                self._searches[number] = job.tokens()
            else:
                self.engine.submit(replace(job.request, id=number))
        except Exception as error:
            self._fail(number, error)

    def _step(self) -> None:
        if self.engine.busy:
            for event in self.engine.step():
                self._tell(event.request, Taken(event.sample, event.choice, event.end, error=event.error))
        for number in list(self._searches)[:1]:  # one after the other: each has the memory of a batch
            try:
                taken = next(self._searches[number], None)
            except Exception as error:
                del self._searches[number]
                self._fail(number, error)
                continue
            if taken is None:
                del self._searches[number]
                self._forget(number)
            else:
                self._tell(number, taken)

    def _tell(self, number: int, taken: Taken) -> None:
        job = self._open.get(number)
        if job is None:
            return
        if taken.error is not None:
            self.engine.cancel(number)
            self._fail(number, taken.error)
            return
        job.take(taken)
        if taken.ends:
            self._left[number] -= 1
            if self._left[number] == 0:
                self._forget(number)

    def _fail(self, number: int, error: Exception) -> None:
        job = self._open[number]
        self._forget(number)
        if not isinstance(error, RequestError | ValueError):
            _log.warning("a request failed: %s: %s", type(error).__name__, error)
        job.take(Taken(error=error))

    def _fail_all(self, error: Exception) -> None:
        for number in list(self._open):
            self._fail(number, error)

    def _forget(self, number: int) -> None:
        with self._changed:
            self._open.pop(number, None)
            self._left.pop(number, None)
