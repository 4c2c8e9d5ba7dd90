"""The end of a run: its last step, early stopping, or a pause."""

from __future__ import annotations

from dataclasses import dataclass

from gptzoo.spec.run import EarlyStoppingSpec
from gptzoo.training.run.run_view import Status
from gptzoo.training.run.train_state import TrainState


@dataclass(frozen=True)
class RunLength:
    """The conditions under which training stops, checked against the train state after every step."""

    train_state: TrainState
    n_steps: int
    early_stopping: EarlyStoppingSpec | None
    pause_after: int | None  # step

    def is_done(self) -> bool:
        """Return True if the run has reached its last step, or early stopping has ended it."""
        stopping = self.early_stopping
        stopped_early = stopping is not None and self.train_state.evaluations_since_best >= stopping.patience
        return self.train_state.step >= self.n_steps or stopped_early

    def should_stop(self) -> bool:
        """Return True if this process has no more steps to do, because the run is done or paused."""
        pauses = self.pause_after is not None and self.train_state.step >= self.pause_after
        return self.is_done() or pauses

    def status(self) -> Status:
        """Return the status of a run that has stopped without an error."""
        return "done" if self.is_done() else "paused"
