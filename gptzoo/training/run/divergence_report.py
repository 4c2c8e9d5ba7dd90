"""The `Diverged` error of a run whose loss or gradient is not finite."""

from __future__ import annotations

from collections.abc import Sequence

from gptzoo.checkpoint.checkpoints import newest_valid_checkpoint
from gptzoo.errors import Diverged, GptzooError, LogitsError
from gptzoo.training.distributed.ranks import Ranks
from gptzoo.training.run.run_folder import RunFolder
from gptzoo.training.run.train_state import TrainState
from gptzoo.training.step.micro_batch import MicroBatch
from gptzoo.training.step.non_finite_origin import diagnose
from gptzoo.training.step.train_step import Gradient, TrainStep

_ADVICE = "Try a lower learning rate, a longer warmup or a smaller clip_norm."


def diagnose_divergence(
    folder: RunFolder,
    train_state: TrainState,
    train_step: TrainStep,
    gradient: Gradient,
    micro_batches: Sequence[MicroBatch],
) -> GptzooError:
    """Diagnose a gradient that is not finite, and return the error to raise on all ranks. All ranks must call it."""
    diagnosis = diagnose(train_step, gradient, micro_batches, train_state.step)
    ranks = train_step.ranks
    first = train_state.samples + diagnosis.rows.start
    last = first + len(diagnosis.rows) - 1
    return ranks.as_collective(
        Diverged(
            f"{folder.path}: the {diagnosis.value}, over samples {first} to {last}; {diagnosis.origin}. "
            f"The weights were not updated. {_last_checkpoint(folder, ranks)} {_ADVICE}"
        )
    )


def diverged_evaluation(folder: RunFolder, train_state: TrainState, ranks: Ranks, error: LogitsError) -> GptzooError:
    """Return the error to raise on all ranks for an evaluation whose loss is not a number."""
    return ranks.as_collective(
        Diverged(
            f"{folder.path}: evaluation at step {train_state.step}: {error} {_last_checkpoint(folder, ranks)} {_ADVICE}"
        )
    )


def _last_checkpoint(folder: RunFolder, ranks: Ranks) -> str:
    checkpoint = newest_valid_checkpoint(folder.checkpoints) if ranks.is_main else None
    return f"The last checkpoint is {checkpoint.name}." if checkpoint else "There is no checkpoint yet."
