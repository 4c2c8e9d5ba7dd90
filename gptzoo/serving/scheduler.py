"""The scheduler thread: it owns the model, runs the engine, and reports token events to the requests."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from gptzoo.errors import InputError
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.request import Request
from gptzoo.sampling.score import ScoredToken
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.serving.errors import RequestError
from gptzoo.serving.process.turns import Turns

_log = logging.getLogger(__name__)


_EXHAUSTED = TokenEvent(None)
_PROBE = -1  # id of the request that tests the engine; those of clients start at 0


def _ignore(_: object) -> None:
    pass


@dataclass(eq=False)
class QueuedRequest:
    """The samples of one prompt in the request queue. The scheduler thread calls its functions."""

    request: Request
    on_event: Callable[[TokenEvent], object] = _ignore
    """Called with each generated token, with the end of a sample without a token, and with an error that ends all."""
    on_prompt_scores: Callable[[Sequence[ScoredToken]], object] = _ignore
    """Called once with the result of `score_prompt`, before any event."""
    score_prompt: Callable[[], Sequence[ScoredToken]] | None = None
    """Computes the log-probabilities of the prompt. None if the client does not ask for them."""
    search: Callable[[], Iterable[Iterable[TokenEvent] | None]] | None = None
    """Generates the samples without the engine, as beam search does. It yields the events of each sample, and None
    after a step without any. None: the engine generates the samples."""

    def search_events(self) -> Iterator[TokenEvent | None]:
        """Yield the events of `search`, with a final event for each sample, and None after a step without any."""
        assert self.search is not None
        n_samples = self.request.n_samples
        n_found = 0
        for events in self.search():
            if events is None:
                yield None
                continue
            if n_found == n_samples:
                break
            event = None
            for event in events:
                yield event._replace(sample=n_found)
            if event is None:
                yield TokenEvent(None, finish_reason="length", sample=n_found)
            n_found += 1
        for sample in range(n_found, n_samples):  # a search may find fewer texts
            yield TokenEvent(None, finish_reason="finished", sample=sample)


class Scheduler:
    """A request queue and the thread that serves it. The thread runs while the scheduler's `with` block is open.

    Requests that are unfinished at the end of the block get an error. A request that fails gets an error of its own. If
    the engine fails, its contents are unknown: all requests in it get an error, and the engine is reset and tested
    before the next request.

    max_waiting: maximum number of samples that wait, in addition to those in the engine's slots.
    turns: shared by the schedulers of one server, whose models compute one after the other.
    """

    def __init__(self, engine: Engine, *, max_waiting: int = 64, turns: Turns | None = None):
        self.engine, self.max_waiting = engine, max_waiting
        self.turns = Turns() if turns is None else turns
        self.failure: BaseException | None = None  # the exception that the engine has not recovered from
        self._ended = False  # the thread ended by an exception
        self._open: dict[int, QueuedRequest] = {}  # by request id
        self._n_unfinished: dict[int, int] = {}  # samples, by request id
        self._submitted: list[int] = []  # ids that the thread has not seen yet
        self._cancelled: list[int] = []
        self._searches: dict[int, Iterator[TokenEvent | None]] = {}
        self._ids = itertools.count()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="gptzoo-scheduler", daemon=True)

    def __enter__(self) -> Scheduler:
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
        """The number of samples that are waiting or running."""
        with self._changed:
            return sum(self._n_unfinished.values())

    def submit(self, requests: Sequence[QueuedRequest]) -> list[int]:
        """Queue requests, all or none, and return their ids. Raises RequestError if the queue is full or closed."""
        n_samples = sum(queued.request.n_samples for queued in requests)
        with self._changed:
            if self._ended or self._closing:
                raise RequestError(503, "the model is not running any more")
            if self.n_open + n_samples > self.engine.n_slots + self.max_waiting:
                raise RequestError(
                    429,
                    f"the queue is full: {self.n_open} texts are waiting or running, and the request asks for "
                    f"{n_samples} more. Try again later.",
                    code="rate_limit_exceeded",
                )
            ids = [next(self._ids) for _ in requests]
            self._open |= dict(zip(ids, requests, strict=True))
            self._n_unfinished |= {i: queued.request.n_samples for i, queued in zip(ids, requests, strict=True)}
            self._submitted += ids
            self._changed.notify()
        return ids

    def cancel(self, ids: Iterable[int]) -> None:
        """Drop requests without further events. Finished ones are ignored.

        Their places in the queue are free at once, and their slots before the next step.
        """
        with self._changed:
            dropped = [request_id for request_id in ids if self._open.pop(request_id, None) is not None]
            for request_id in dropped:
                del self._n_unfinished[request_id]
            self._cancelled += dropped
            self._changed.notify()

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                with self.turns:
                    self._start_and_cancel()
                    self._step()
            self._fail_all(RequestError(503, "the server is shutting down"))
        except BaseException as failure:  # clients must get an answer, whatever happens
            with self._changed:  # no request is submitted after this
                self.failure, self._ended = failure, True
            _log.exception("the scheduler thread ends")
            self._fail_all(RequestError(500, "the model failed. See the server's log."))

    def _wait_for_work(self) -> bool:
        """Block until there is work. Return False if the thread should end."""
        with self._changed:
            while not (self._closing or self._submitted or self._cancelled or self.engine.busy or self._searches):
                self._changed.wait()
            return not self._closing

    def _start_and_cancel(self) -> None:
        """Start the requests that clients submitted, and drop those that they cancelled."""
        with self._changed:
            submitted, self._submitted = self._submitted, []
            cancelled, self._cancelled = self._cancelled, []
        for request_id in cancelled:
            if self._searches.pop(request_id, None) is None:
                self._cancel_in_engine(request_id)
        for request_id in submitted:
            self._start(request_id)

    def _start(self, request_id: int) -> None:
        queued = self._open.get(request_id)
        if queued is None:  # cancelled
            return
        try:
            if self.failure is not None and not self.engine.busy:
                self._recover()
            if queued.score_prompt is not None:
                queued.on_prompt_scores(queued.score_prompt())
            if queued.search is not None:
                self._searches[request_id] = queued.search_events()
            else:
                self.engine.submit(replace(queued.request, id=request_id))
        except Exception as error:
            self._fail_alone(request_id, error)

    def _step(self) -> None:
        """Run one engine step and one step of the oldest search."""
        if self.engine.busy:
            try:
                events = self.engine.step()
            except Exception as error:
                self._fail_engine(error)
                events = []
            for event in events:
                self._dispatch(event.request_id, event)
        for request_id in list(self._searches)[:1]:  # one at a time, because each needs the memory of a batch
            try:
                search_event = next(self._searches[request_id], _EXHAUSTED)
            except Exception as error:  # a search has states of its own, so the engine is not affected
                del self._searches[request_id]
                self._fail_alone(request_id, error)
                continue
            if search_event is _EXHAUSTED:
                del self._searches[request_id]
                self._fail(request_id, RequestError(500, "the search ended before all texts were finished"))
            elif search_event is not None:
                self._dispatch(request_id, search_event)

    def _dispatch(self, request_id: int, event: TokenEvent) -> None:
        """Report an event to its request, and remove the request if it is finished."""
        if request_id == _PROBE:
            self.failure = None if event.error is None or isinstance(event.error, InputError) else event.error
            return
        queued = self._open.get(request_id)
        if queued is None:
            return
        error = event.error
        if error is None:
            try:
                queued.on_event(event)
            except Exception as raised:
                error = raised
        if error is not None:
            self._searches.pop(request_id, None)
            self._cancel_in_engine(request_id)
            self._fail_alone(request_id, error)
        elif event.finish_reason is not None:
            with self._changed:
                if request_id in self._open:  # it may be cancelled at any time
                    self._n_unfinished[request_id] -= 1
                    if self._n_unfinished[request_id] == 0:
                        self._remove(request_id)

    def _fail_alone(self, request_id: int, error: Exception) -> None:
        """Give an error to a request that is not in the engine any more."""
        self._fail(request_id, error)
        if not isinstance(error, InputError | RequestError):  # the next requests may fail as well
            self._probe()

    def _cancel_in_engine(self, request_id: int) -> None:
        try:
            self.engine.cancel(request_id)
        except Exception as error:  # it moves sequences in the cache
            self._fail_engine(error)

    def _fail_engine(self, error: Exception) -> None:
        """Give an error to all requests in the engine, and reset it."""
        _log.error("the engine failed and is reset", exc_info=error)
        traceback.clear_frames(error.__traceback__)  # they refer to the old cache
        self.failure = error
        with self._changed:
            in_engine = self._open.keys() - self._searches.keys() - set(self._submitted)
        for request_id in sorted(in_engine):
            self._fail(request_id, RequestError(500, "the model failed. See the server's log."))
        with contextlib.suppress(RequestError):  # tried again with the next request
            self._recover()

    def _recover(self) -> None:
        """Reset the engine and generate two tokens to test it. Raises RequestError (503) if it fails again."""
        try:
            self.engine.reset()
            self._probe()
            while self.engine.busy:
                for event in self.engine.step():
                    if event.error is not None and not isinstance(event.error, InputError):
                        raise event.error
        except Exception as error:
            self.engine.drop_all()
            self.failure = error
            _log.exception("the engine cannot be reset")
            raise RequestError(503, "the model fails on every request. See the server's log.") from None
        self.failure = None

    def _probe(self) -> None:
        """Submit a request of two tokens, which shows whether the engine still works."""
        self._cancel_in_engine(_PROBE)
        n_new = min(2, self.engine.max_length - 1)
        self.engine.submit(Request([0], SamplingSpec(max_new_tokens=n_new), id=_PROBE))

    def _fail(self, request_id: int, error: Exception) -> None:
        queued = self._open.get(request_id)
        if queued is None:
            return
        self._remove(request_id)
        if not isinstance(error, RequestError):
            is_unexpected = not isinstance(error, InputError) or error.__cause__ is not None
            _log.warning("a request failed: %s", error, exc_info=error if is_unexpected else None)
        try:
            queued.on_event(TokenEvent(None, error=error))
        except Exception:
            _log.exception("a failure could not be reported to the client")

    def _fail_all(self, error: Exception) -> None:
        for request_id in list(self._open):
            self._fail(request_id, error)

    def _remove(self, request_id: int) -> None:
        with self._changed:
            self._open.pop(request_id, None)
            self._n_unfinished.pop(request_id, None)
