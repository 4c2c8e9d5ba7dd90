"""Who watches a run: its trackers, and the hooks of plugins. None of them can end it or change it unnoticed.

One that raises is told of and left out from there on. `StopRun`, and a tracker that is `required`, end the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from gptzoo.errors import InputError, StopRun
from gptzoo.training.distributed.ranks import ALONE, Ranks
from gptzoo.training.run.metrics_file import read
from gptzoo.training.run.run_view import RunView, Status, status_of
from gptzoo.training.tracking.hook_caller import HookCaller
from gptzoo.training.tracking.tracker import Tracker

MetricsRow = Mapping[str, Any]


class Trackers:
    """The trackers of a run that still work. Each gets every row once: none that it holds already."""

    def __init__(self, trackers: Sequence[Tracker], report: Callable[[str], None]):
        self.report = report
        self.held = dict.fromkeys(trackers, -1)  # the last step of each

    def start(self, run: RunView, rows: Iterable[MetricsRow]) -> None:
        """Begin; `rows` are those of the run so far. Raises InputError where a tracker is told to do what it cannot."""
        for tracker in tuple(self.held):
            with self._tolerating(tracker, InputError):
                self.held[tracker] = tracker.start(run)
                for row in rows:
                    self._log(tracker, row)

    def log(self, row: MetricsRow) -> None:
        for tracker in tuple(self.held):
            with self._tolerating(tracker):
                self._log(tracker, row)

    def flush(self) -> None:
        for tracker in tuple(self.held):
            with self._tolerating(tracker):
                tracker.flush()

    def finish(self, status: Status) -> None:
        for tracker in tuple(self.held):
            with self._tolerating(tracker):
                tracker.finish(status)

    def _log(self, tracker: Tracker, row: MetricsRow) -> None:
        if row["step"] > self.held[tracker]:
            tracker.log(row)
            self.held[tracker] = row["step"]

    @contextlib.contextmanager
    def _tolerating(self, tracker: Tracker, *fatal: type[Exception]) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if isinstance(error, (StopRun, *fatal)):
                raise
            told = f"tracker {tracker.config.type!r} failed: {type(error).__name__}: {error}"
            if tracker.config.required:
                raise StopRun(f"{told}; it is required, so the run ends") from error
            del self.held[tracker]
            self.report(f"{told}; the run goes on without it, and --resume will give it what it lacks")


class Watch:
    """The trackers and hooks of one run, and the moments at which they are told of it: those of the main process.

    Each method is called by all processes of the run, and what one raises is raised in all of them.
    """

    def __init__(self, trackers: Trackers, moments: HookCaller, ranks: Ranks):
        self.trackers, self.moments, self.ranks = trackers, moments, ranks
        self.active = bool(trackers.held) or moments.any  # the same in each process

    def start(self, run: RunView) -> None:
        def act() -> None:
            self.trackers.start(run, read(run.folder / "metrics.jsonl"))
            self.moments.tell("gptzoo_run_start")

        self._on_main(act)

    def row(self, row: MetricsRow) -> None:
        """A step was made, or the model evaluated, and metrics.jsonl has it."""

        def act() -> None:
            shown = MappingProxyType(row)
            self.trackers.log(shown)
            if row["step"] > 0:
                self.moments.tell("gptzoo_step", row=shown)
            if "val/loss" in row:
                self.moments.tell("gptzoo_eval", row=shown)

        self._on_main(act)

    def before_checkpoint(self) -> None:
        self._on_main(self.trackers.flush)

    def checkpoint(self, step: int, folder: Path) -> None:
        self._on_main(lambda: self.moments.tell("gptzoo_checkpoint", step=step, folder=folder))

    def end(self, status: Status) -> None:
        """The run has come to its end, or to where it was to pause."""
        self._on_main(lambda: self._end(status, None))

    def fail(self, error: BaseException) -> None:
        """The run has ended by an error, of which the other processes may not know: nobody waits for them here."""
        if self.ranks.main and self.active:
            try:
                self._end(status_of(error), f"{type(error).__name__}: {error}")
            except StopRun as another:
                self.trackers.report(str(another))

    def _end(self, status: Status, reason: str | None) -> None:
        self.moments.tell("gptzoo_run_end", status=status, reason=reason)
        self.trackers.finish(status)

    def _on_main(self, act: Callable[[], None]) -> None:
        if self.active:
            self.ranks.on_main(act)


@contextlib.contextmanager
def watched(
    run: RunView,
    model: nn.Module,
    trackers: Sequence[Tracker],
    report: Callable[[str], None],
    ranks: Ranks = ALONE,
    ending: Callable[[], Status] = lambda: "done",
) -> Iterator[Watch]:
    """Tell trackers and hooks that the run begins, and at the end of the block how it has ended: as `ending` says, or
    by an error.

    Raises StopRun for one that asks for it, and InputError where a tracker cannot do what it is told.
    """
    watch = Watch(Trackers(trackers, report), HookCaller(run, model, report), ranks)
    watch.start(run)
    try:
        yield watch
    except (Exception, KeyboardInterrupt) as error:
        watch.fail(error)
        raise
    watch.end(ending())
