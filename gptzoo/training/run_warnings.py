"""Warnings at the end of a run: weights that did not change, and a learning rate that had not decayed."""

from __future__ import annotations

from gptzoo.training.optim.learning_rate_schedules import Schedule
from gptzoo.training.run.resume import MAX_JUMP
from gptzoo.training.run.run_length import RunLength
from gptzoo.training.run.train_state import TrainState
from gptzoo.training.weight_changes import InitialWeights


def weight_warnings(initial_weights: InitialWeights | None, state: TrainState, *, is_last_step: bool) -> list[str]:
    """Return a warning if training has changed no weights so far, or at the last step if it left some unchanged."""
    if initial_weights is None or state.skipped == state.step:
        return []
    changes = initial_weights.changes()
    return changes.warnings(state.step) if is_last_step or changes.is_nothing else []


def early_stop_warnings(schedule: Schedule, state: TrainState, run_length: RunLength) -> list[str]:
    """Return a warning if early stopping ended a run whose learning rate would still have decayed."""
    if not run_length.is_done() or state.step >= run_length.n_steps:
        return []
    now, end = (schedule.lr_factor(number - 1) for number in (state.step, run_length.n_steps))
    if now <= MAX_JUMP * end:
        return []
    return [
        f"early stopping ended the run at step {state.step:,} of {run_length.n_steps:,}, where the learning rate was "
        f"at {now:.2g} of its peak and not yet at {end:.2g}. With its decay, the loss would have been lower"
    ]
