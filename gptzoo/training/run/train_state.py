"""How far a run is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gptzoo.spec.run import RunSpec


@dataclass
class TrainState:
    """Beside the model, the optimizer, the averages and the scale of the loss, all that a checkpoint keeps of a run."""

    step: int = 0  # updates done, those that were left out included
    samples: int = 0  # seen in training: where in the data it is
    best_step: int | None = None  # of the evaluation with the lowest validation loss
    best_loss: float | None = None
    evaluations_since_best: int = 0
    skipped: int = 0  # updates left out because a number was not finite
    skipped_in_a_row: int = 0

    def judge(self, loss: float, min_delta: float = 0.0) -> bool:
        """Take in an evaluation; returns whether it is the best so far."""
        best = math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss - min_delta)
        if best:
            self.best_step, self.best_loss, self.evaluations_since_best = self.step, loss, 0
        else:
            self.evaluations_since_best += 1
        return best

    def note_skipped(self, skipped: bool) -> None:
        """Take in whether the update of a step was left out."""
        self.skipped += skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0

    def last_step(self, spec: RunSpec, n_samples: int) -> int:
        """How many steps the run has, counted from its beginning; `n_samples` are those of an epoch."""
        size = spec.batch_size
        if spec.steps is not None:
            return spec.steps
        if spec.tokens is not None:
            length = spec.model.context_length
            left = -(-(spec.tokens - self.samples * length) // (size * length))
        else:
            assert spec.epochs is not None  # the spec says one of the three
            left = -(-(math.ceil(spec.epochs * n_samples) - self.samples) // size)
        return self.step + left  # not from the beginning: steps before a change of batch_size were of another
