"""The observers of a run: its trackers, and the hooks of plugins.

An observer that raises is reported once and not called again; the run continues. Only `StopRun` and a tracker with
`required` end the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from gptzoo.errors import InputError, StopRun
from gptzoo.training.distributed.ranks import SINGLE_RANK, Ranks
from gptzoo.training.run.metrics_file import read_metrics
from gptzoo.training.run.run_view import RunView, Status, status_of
from gptzoo.training.tracking.hook_caller import HookCaller
from gptzoo.training.tracking.tracker import Tracker

MetricsRow = Mapping[str, Any]


class Trackers:
    """The trackers of a run that have not failed. Each gets every row once."""

    def __init__(self, trackers: Sequence[Tracker], report: Callable[[str], None]):
        self.report = report
        self.last_steps = dict.fromkeys(trackers, -1)  # last step that each tracker has

    def start(self, run: RunView, rows: Iterable[MetricsRow]) -> None:
        """Start the trackers, and log the `rows` of the run so far that they lack.

        Raises InputError if a tracker cannot fulfil its options.
        """
        for tracker in tuple(self.last_steps):
            with self._removing_failed(tracker, InputError):
                self.last_steps[tracker] = tracker.start(run)
                for row in rows:
                    self._log_once(tracker, row)

    def log(self, row: MetricsRow) -> None:
        for tracker in tuple(self.last_steps):
            with self._removing_failed(tracker):
                self._log_once(tracker, row)

    def flush(self) -> None:
        for tracker in tuple(self.last_steps):
            with self._removing_failed(tracker):
                tracker.flush()

    def finish(self, status: Status) -> None:
        for tracker in tuple(self.last_steps):
            with self._removing_failed(tracker):
                tracker.finish(status)

    def _log_once(self, tracker: Tracker, row: MetricsRow) -> None:
        if row["step"] > self.last_steps[tracker]:
            tracker.log(row)
            self.last_steps[tracker] = row["step"]

    @contextlib.contextmanager
    def _removing_failed(self, tracker: Tracker, *fatal: type[Exception]) -> Iterator[None]:
        """Remove and report a tracker that raises in the block. Raises StopRun if it is required."""
        try:
            yield
        except Exception as error:
            if isinstance(error, (StopRun, *fatal)):
                raise
            message = f"tracker {tracker.config.type!r} failed: {type(error).__name__}: {error}"
            if tracker.config.required:
                raise StopRun(f"{message}. The run ends, because the tracker is required") from error
            del self.last_steps[tracker]
            self.report(f"{message}. The run continues without it; --resume gives it the missing steps")


class RunObservers:
    """The trackers and hooks of one run, called on the main rank.

    All ranks must call each method. An exception of an observer is raised on all ranks.
    """

    def __init__(
        self,
        trackers: Trackers,
        hooks: HookCaller,
        ranks: Ranks,
        evaluation_weights: Callable[[], AbstractContextManager[object]],
    ):
        self.trackers, self.hooks, self.ranks = trackers, hooks, ranks
        self.evaluation_weights = evaluation_weights
        # The same on all ranks, also after one of them has been removed on the main rank.
        self.has_hooks = hooks.has_hooks
        self.has_observers = bool(trackers.last_steps) or self.has_hooks

    def start(self, run: RunView) -> None:
        """Call the observers at the start of the run."""

        def call() -> None:
            self.trackers.start(run, read_metrics(run.folder / "metrics.jsonl"))
            self.hooks.call("gptzoo_run_start")

        self._on_main_rank(call)

    def log(self, row: MetricsRow) -> None:
        """Call the observers after a step or an evaluation whose row is in metrics.jsonl."""
        read_only_row = MappingProxyType(row)

        def call() -> None:
            self.trackers.log(read_only_row)
            if row["step"] > 0:
                self.hooks.call("gptzoo_step", row=read_only_row)

        self._on_main_rank(call)
        if "val/loss" in row and self.has_hooks:
            with self.evaluation_weights():
                self._on_main_rank(lambda: self.hooks.call("gptzoo_eval", row=read_only_row))

    def before_checkpoint(self) -> None:
        """Flush the trackers, so that they have every step of the checkpoint."""
        self._on_main_rank(self.trackers.flush)

    def after_checkpoint(self, step: int, folder: Path) -> None:
        """Call the hooks after a checkpoint was written."""
        self._on_main_rank(lambda: self.hooks.call("gptzoo_checkpoint", step=step, folder=folder))

    def end(self, status: Status) -> None:
        """Call the observers at the end of the run, or at a pause."""
        self._on_main_rank(lambda: self._end(status, None))

    def fail(self, error: BaseException) -> None:
        """Call the observers after an error, without a collective: the error may be on this rank alone."""
        if self.ranks.is_main and self.has_observers:
            try:
                self._end(status_of(error), f"{type(error).__name__}: {error}")
            except StopRun as stop:
                self.trackers.report(str(stop))

    def _end(self, status: Status, reason: str | None) -> None:
        self.hooks.call("gptzoo_run_end", status=status, reason=reason)
        self.trackers.finish(status)

    def _on_main_rank(self, call: Callable[[], None]) -> None:
        if self.has_observers:
            self.ranks.on_main_rank(call)


@contextlib.contextmanager
def observe_run(
    run: RunView,
    model: nn.Module,
    trackers: Sequence[Tracker],
    report: Callable[[str], None],
    ranks: Ranks = SINGLE_RANK,
    final_status: Callable[[], Status] = lambda: "done",
    evaluation_weights: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
) -> Iterator[RunObservers]:
    """Start the trackers and hooks, and end them with `final_status()` or with the error that leaves the block.

    evaluation_weights: returns a context in which the model has the weights for evaluation, for `gptzoo_eval`.

    Raises StopRun if an observer ends the run, and InputError if a tracker cannot fulfil its options.
    """
    hooks = HookCaller(run, model, report)
    observers = RunObservers(Trackers(trackers, report), hooks, ranks, evaluation_weights)
    observers.start(run)
    try:
        yield observers
    except (Exception, KeyboardInterrupt) as error:
        observers.fail(error)
        raise
    observers.end(final_status())
