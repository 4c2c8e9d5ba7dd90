"""The start of a run: at step 0, or at the newest valid checkpoint of its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gptzoo.checkpoint.checkpoints import newest_valid_checkpoint
from gptzoo.data.held_out import Overlap
from gptzoo.errors import FolderError
from gptzoo.training.micro_batch_size import resolve_micro_batch_size
from gptzoo.training.optim.ema import EMA
from gptzoo.training.optim.learning_rate_schedules import Schedule
from gptzoo.training.optim.optimizers import MIN_LR
from gptzoo.training.optim.schedule_shape import schedule_warnings
from gptzoo.training.run.checkpoint_state import load_trained_weights, read_checkpoint_state
from gptzoo.training.run.end_record import require_metrics
from gptzoo.training.run.metrics_file import read_last_row, truncate_after
from gptzoo.training.run.run_folder import HELD_OUT_CHANGED, AllowedChange, RunFolder
from gptzoo.training.run.train_state import TrainState
from gptzoo.training.setup import Setup
from gptzoo.training.weight_changes import InitialWeights

MAX_JUMP = 1.5  # ratio of two learning rates above which the difference is reported
_NEW_BITS_PER_BYTE = (
    "bits per byte: an older version started this run. It counted separators between documents as text. From now on "
    "only the bytes of the documents count"
)


@dataclass(frozen=True)
class StartingPoint:
    """The state from which training continues, and the messages to print first."""

    train_state: TrainState
    ema: EMA | None
    n_steps: int
    schedule: Schedule
    micro_batch_size: int
    resume_step: int  # -1 for a new run
    messages: list[str]
    warnings: list[str]  # about the learning rate
    initial_weights: InitialWeights | None  # None if a resumed run has taken them from elsewhere


def start_or_resume(setup: Setup, allowed_change: AllowedChange = "nothing") -> StartingPoint:
    """Write or check the spec in the run folder, restore the newest valid checkpoint, and drop newer metrics.

    All ranks must call it. Raises FolderError if the folder has another run, or a run that is already longer.
    """
    spec, folder, ranks, data = setup.spec, setup.folder, setup.ranks, setup.data_record()
    messages = [setup.describe(), *setup.notes()]
    if setup.store.overlap is not None:
        messages.append(describe_overlap(setup.store.overlap))

    if folder.keeps_duplicates:
        messages.append(_NEW_BITS_PER_BYTE)

    skipped: list[str] = []
    checkpoint = ranks.on_main_rank(lambda: newest_valid_checkpoint(folder.checkpoints, skipped.append))
    # Weights that do not fit are refused before anything is written.
    weights = ranks.on_all_ranks(setup.read_initial_weights) if checkpoint is None else None

    def write_or_check_spec() -> list[str]:
        return folder.write_or_check_spec(spec, setup.device, data, messages.append, allowed_change=allowed_change)

    changes = ranks.on_main_rank(write_or_check_spec)
    micro_batch_size = resolve_micro_batch_size(spec, setup.train_step, setup.batching, folder, messages.append)
    messages += skipped
    # The setup has drawn the initial weights. A checkpoint replaces them.
    initial_weights = InitialWeights(setup.parameters) if spec.init_from is None else None
    if weights is not None:
        messages += weights.describe(spec.seed)
        setup.parallelized.assign(weights.taken)
        ranks.on_main_rank(lambda: folder.write_initial_weights(weights.record()))
    train_state, ema = ranks.on_all_ranks(lambda: _restore(setup, checkpoint, messages))
    if weights is not None:
        initial_weights = InitialWeights(setup.parameters)
    n_steps = train_state.total_steps(spec, setup.n_samples)
    if train_state.step > n_steps:
        raise ranks.as_collective(
            FolderError(f"{folder.path}: the run has already done {train_state.step} steps, more than {n_steps}")
        )
    schedule = spec.schedule.build(n_steps)
    if HELD_OUT_CHANGED in changes:
        train_state.forget_best()
    if changes:
        ranks.on_main_rank(lambda: folder.record_changes(spec, data, train_state.step, changes))
        messages += [f"changed at step {train_state.step}: {change}" for change in changes]
    resume_step = train_state.step or -1  # without a checkpoint, the row of step 0 is written again too
    ranks.on_main_rank(lambda: _truncate_metrics(folder, resume_step))
    warnings = schedule_warnings(spec.schedule, n_steps) + _low_group_rates(setup)
    ranks.on_main_rank(lambda: folder.write_warnings("learning_rate", warnings))
    if changes:
        jump = ranks.on_main_rank(lambda: _learning_rate_jump(setup, schedule, train_state.step, n_steps))
        ranks.on_main_rank(lambda: folder.write_warnings("changes", jump))
        warnings += jump
    return StartingPoint(
        train_state, ema, n_steps, schedule, micro_batch_size, resume_step, messages, warnings, initial_weights
    )


def _learning_rate_jump(setup: Setup, schedule: Schedule, step: int, n_steps: int) -> list[str]:
    """Return a warning if the learning rate of a run whose spec has changed is much higher than before the change."""
    if not 0 < step < n_steps:
        return []
    before = read_last_row(setup.folder.metrics).get("lr")
    now = setup.train_step.peak_lrs[0] * schedule.lr_factor(step)
    if not isinstance(before, float) or now <= MAX_JUMP * before:
        return []
    return [
        f"the learning rate jumps from {before:.3g} to {now:.3g} at step {step:,}, because the spec has changed. The "
        "loss may rise at first, and the run is not the same as one that had the new spec from the start"
    ]


def _low_group_rates(setup: Setup) -> list[str]:
    """Return a warning if a parameter group has a peak learning rate that changes no weight."""
    rates = setup.train_step.peak_lrs
    if not (low := [rate for rate in rates if rate < MIN_LR]):
        return []
    return [
        f"{len(low)} of {len(rates)} parameter groups have a peak learning rate below {MIN_LR:g}, the lowest "
        f"{min(low):.2g}, which changes no float32 weight. Use a layer_lr_decay nearer to 1, or list the weights in "
        "freeze"
    ]


def describe_overlap(overlap: Overlap) -> str:
    """Return a note about held-out text in the training text; a warning if chance does not explain it."""
    if not overlap.is_high:
        return f"held-out text: {overlap.describe()}"
    return f"warning: the validation loss is measured on text that is partly trained on: {overlap.describe()}"


def _truncate_metrics(folder: RunFolder, resume_step: int) -> None:
    """Drop the metrics after a checkpoint. Raises FolderError if some of those before it are missing or damaged."""
    if resume_step >= 0:
        require_metrics(folder.path, resume_step)
    truncate_after(folder.metrics, resume_step)


def _restore(setup: Setup, checkpoint: Path | None, messages: list[str]) -> tuple[TrainState, EMA | None]:
    """Load a checkpoint, if there is one."""
    spec = setup.spec
    if checkpoint is not None:
        setup.parallelized.load(checkpoint)
        load_trained_weights(setup.parallelized.parameters(), checkpoint, setup.parallelized.row_orders)
    ema = None if spec.ema_decay is None else EMA(setup.parameters, spec.ema_decay)
    if checkpoint is None:
        return TrainState(), ema
    train_step = setup.train_step
    ema_values = None if ema is None else ema.values
    state = read_checkpoint_state(
        checkpoint, train_step.optimizer, setup.parameters, ema_values, setup.parallelized.row_orders
    )
    if setup.group_entries and "optimizer" not in state:
        messages.append(
            f"{checkpoint}: an older version of gptzoo wrote it, without {', '.join(sorted(setup.group_entries))} of "
            "the optimizer's parameter groups. They start anew, so the run differs from one without a stop"
        )
    train_state = TrainState(**state["standing"])
    train_step.loss_scale.load_state_dict(state["loss_scale"])
    messages.append(f"resumed at step {train_state.step}")
    return train_state, ema
