"""The train state: the progress of a run, as its checkpoints store it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gptzoo.spec.run import RunSpec


@dataclass
class TrainState:
    """The counters of a run, which checkpoints store with the model, the optimizer, the EMA and the loss scale."""

    step: int = 0  # optimizer steps so far, skipped ones included
    samples: int = 0  # training samples so far; the position in the data
    best_step: int | None = None  # step of the evaluation with the lowest validation loss
    best_loss: float | None = None
    evaluations_since_best: int = 0
    skipped: int = 0  # updates skipped because a number was not finite
    skipped_in_a_row: int = 0

    def record_evaluation(self, loss: float, min_delta: float = 0.0) -> bool:
        """Count an evaluation; return True if its validation loss is the best so far."""
        is_best = math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss - min_delta)
        if is_best:
            self.best_step, self.best_loss, self.evaluations_since_best = self.step, loss, 0
        else:
            self.evaluations_since_best += 1
        return is_best

    def forget_best(self) -> None:
        """Forget the best evaluation, because the held-out text is another one from now on."""
        self.best_step, self.best_loss, self.evaluations_since_best = None, None, 0

    def record_update(self, *, skipped: bool) -> None:
        """Count an update that was made or skipped."""
        self.skipped += skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0

    def total_steps(self, spec: RunSpec, n_samples: int) -> int:
        """Return the step at which the run ends. `n_samples` is the number of samples in an epoch.

        Steps before a change of batch_size had other sizes, so the rest is counted from the current step.
        """
        batch_size = spec.batch_size
        if spec.steps is not None:
            return spec.steps
        if spec.tokens is not None:
            length = spec.tokens_per_sample
            remaining = -(-(spec.tokens - self.samples * length) // (batch_size * length))
        else:
            assert spec.epochs is not None  # the spec has exactly one of the three
            remaining = -(-(math.ceil(spec.epochs * n_samples) - self.samples) // batch_size)
        return self.step + remaining
