"""How far a run is."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Standing:
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
