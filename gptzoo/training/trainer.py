"""The training loop, which works with every component.

Everything in a step is a function of (spec, step): the batch, the learning rate, the dropout masks. So a checkpoint
stores only the model, the optimizer and a few counters (`TrainState`), and a run that was killed and resumed ends with
the same weights, bit by bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gptzoo.checkpoint.checkpoints import checkpoint_path
from gptzoo.data.batching.batching import Batching
from gptzoo.data.file_checksums import BackgroundCheck
from gptzoo.data.token_store import check_in_background
from gptzoo.errors import InputError, Interrupted, LogitsError
from gptzoo.spec.files import load_run_spec
from gptzoo.spec.run import RunSpec
from gptzoo.terminal.activity import activity
from gptzoo.training.distributed.process_group import lost_rank_errors, process_group, rank_device
from gptzoo.training.distributed.ranks import attempt
from gptzoo.training.evaluation.full_pass import MAX_TOKENS_PER_BATCH, measure
from gptzoo.training.hardware.device import float32_matmul_precision, preserve_rng_state
from gptzoo.training.run.divergence_report import diagnose_divergence, diverged_evaluation
from gptzoo.training.run.end_record import record_end
from gptzoo.training.run.metrics_file import open_metrics, read_metrics, replace_non_finite
from gptzoo.training.run.resume import StartingPoint, start_or_resume
from gptzoo.training.run.run_folder import AllowedChange, RunFolder
from gptzoo.training.run.run_length import RunLength
from gptzoo.training.run.run_view import RunView
from gptzoo.training.run.save_checkpoint import CheckpointContents, save_on_all_ranks
from gptzoo.training.run.stop_request import listen_for_stop
from gptzoo.training.run_warnings import early_stop_warnings, weight_warnings
from gptzoo.training.setup import Setup
from gptzoo.training.step.micro_batch import MicroBatch, split_into_micro_batches
from gptzoo.training.step.prefetch import Prefetcher, prefetch
from gptzoo.training.step.step_timer import StepTimer
from gptzoo.training.tracking.observers import RunObservers, observe_run
from gptzoo.training.tracking.progress import Progress, as_warning, show_progress
from gptzoo.utils.notebook.view import NotebookView


@dataclass(frozen=True)
class TrainResult(NotebookView):
    """The result of a run that is done or paused."""

    folder: Path
    steps: int  # optimizer steps so far
    metrics: Mapping[str, Any]  # the last row of metrics.jsonl
    example_prompt: str  # the start of the validation text: a prompt that suits any tokenizer
    best_step: int | None  # step of the evaluation with the lowest validation loss
    paused: bool = False
    warnings: Sequence[str] = ()  # those in warnings.json, such as a warmup as long as the run


def train(
    spec: RunSpec | str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    resume: bool = False,
    extend: bool = False,
    override: bool = False,
    until: int | None = None,
    quiet: bool = False,
    allow_oversize: bool = False,
) -> TrainResult:
    """Train the model of a run spec into the run folder `out`.

    resume: continue from the newest valid checkpoint in `out`, or start at step 0 if there is none.
    extend: resume even if steps, tokens or epochs have changed.
    override: resume even if any field of the spec, or the training data, has changed. changes.jsonl records the
        changes.
    until: save a checkpoint after this step and pause. Pausing does not change the final weights.
    quiet: print nothing.
    allow_oversize: start even if weights, gradients and optimizer state need more memory than the machine or the
        device has.

    All processes started by torchrun train this run together, and return or raise together.

    Raises SpecError, DataError and FolderError for wrong input; Diverged before an update with a loss or gradient that
    is not finite; and Interrupted after a signal, with a checkpoint.
    """
    if not isinstance(spec, RunSpec):
        spec = load_run_spec(spec)
    if until is not None and until < 1:
        raise InputError(f"until: expected a step of at least 1, got {until}")
    folder = RunFolder(out)
    allowed_change: AllowedChange = "anything" if override else "length" if extend else "nothing"
    with process_group(spec) as ranks, contextlib.ExitStack() as stack, preserve_rng_state(rank_device(spec.device)):
        lock = folder.lock(resume=resume or allowed_change != "nothing")
        ranks.on_main_rank(lambda: stack.enter_context(lock))
        keep = folder.keep_recorded_options
        kept_spec, notes = (spec, []) if override else ranks.on_all_ranks(lambda: keep(spec))
        setup = ranks.on_all_ranks(lambda: Setup(kept_spec, folder, ranks, allow_oversize=allow_oversize))
        start = start_or_resume(setup, allowed_change)
        start.messages.extend(notes)
        return _run(setup, start, until=until, quiet=quiet)


def _run(setup: Setup, start: StartingPoint, *, until: int | None, quiet: bool) -> TrainResult:
    """Run the training loop with its progress display, status file, trackers and hooks."""
    spec, folder, ranks, train_state = setup.spec, setup.folder, setup.ranks, start.train_state
    run_length = RunLength(train_state, start.n_steps, spec.early_stopping, until)
    view = RunView(spec, folder.path, start.n_steps, start.resume_step, str(setup.device))
    with (
        contextlib.ExitStack() as stack,
        lost_rank_errors(),
        float32_matmul_precision(setup.precision),
        show_progress(
            start.n_steps, train_state.step, shares=spec.declared_metrics, quiet=quiet or not ranks.is_main
        ) as progress,
    ):
        status_file = folder.track_status(run_length.status)
        ranks.on_main_rank(lambda: stack.enter_context(status_file))
        for message in (*start.messages, *map(as_warning, start.warnings)):
            progress.report(message)
        with observe_run(
            view,
            setup.model,
            setup.trackers,
            progress.report,
            ranks,
            run_length.status,
            setup.train_step.evaluation_weights,
        ) as observers:
            Trainer(setup, start, run_length, progress, observers).run()
        ranks.on_main_rank(lambda: record_end(folder.path, train_state.step, run_length.status()))
    example_prompt = setup.tokenizer.decode(setup.batching.example_prompt())
    last_row = ranks.on_main_rank(lambda: read_metrics(folder.metrics)[-1])
    paused = run_length.status() == "paused"
    warnings = ranks.on_main_rank(folder.read_warnings)
    return TrainResult(folder.path, train_state.step, last_row, example_prompt, train_state.best_step, paused, warnings)


class Trainer:
    """The training loop of one run. Every rank executes it in step with the others."""

    def __init__(
        self,
        setup: Setup,
        start: StartingPoint,
        run_length: RunLength,
        progress: Progress,
        observers: RunObservers,
    ):
        self.spec = setup.spec
        self.folder = setup.folder
        self.ranks = setup.ranks
        self.device = setup.device
        self.precision = setup.precision
        self.tokenizer = setup.tokenizer
        self.batching = setup.batching
        self.evaluation_sets = setup.evaluation_sets
        self.tokens_per_sample = setup.spec.tokens_per_sample
        self.model = setup.model
        self.parallelized = setup.parallelized
        self.parameters = setup.parameters
        self.train_step = setup.train_step
        self.monitor = setup.monitor
        self.train_state = start.train_state
        self.ema = start.ema
        self.initial_weights = start.initial_weights
        self.micro_batch_size = start.micro_batch_size
        self.run_length = run_length
        self.schedule = start.schedule
        self.progress = progress
        self.observers = observers
        self.timer = StepTimer(self.device)
        is_resumed = start.resume_step >= 0 and self.ranks.is_main
        self.store_check = check_in_background(setup.store) if is_resumed else BackgroundCheck({})

    def run(self) -> None:
        """Train to the end of the run or to a pause, and leave a checkpoint there.

        A step is: get the batch, train on it, evaluate if due, append the metrics, save if due, stop if asked.
        """
        spec, state = self.spec, self.train_state
        with (
            listen_for_stop() as stop_request,
            contextlib.ExitStack() as stack,
            self.prefetch_batches() as prefetcher,
        ):
            metrics_file = open_metrics(self.folder.metrics, write=self.ranks.is_main)
            metrics = self.ranks.on_all_ranks(lambda: stack.enter_context(metrics_file))
            if state.step == 0:
                validation, _ = self._evaluate()
                row = replace_non_finite({"step": 0, **validation})
                self.ranks.on_all_ranks(partial(metrics.append, row))
                self.progress.show(row)
                self.observers.log(row)
            first_step = stack.enter_context(contextlib.ExitStack())
            first_step.enter_context(
                activity("compiling the model and training one step" if spec.compile else "training one step")
            )
            while not self.run_length.should_stop():
                with first_step.pop_all():  # empty after the first step of this process
                    row = self.train_one_step(prefetcher)

                is_best = False
                if state.step == self.run_length.n_steps or state.step % spec.eval.every == 0:
                    validation, is_best = self._evaluate()
                    row |= validation

                row = replace_non_finite(row)
                _, write_error = attempt(partial(metrics.append, row))
                stop_signal = stop_request.all_reduce_or_raise(self.ranks, write_error)
                self.progress.show(row)
                self.observers.log(row)

                is_last_step = self.run_length.should_stop()
                # The first steps in fp16 may be left out until the loss scale fits.
                if (state.step == 1 and not self.train_step.loss_scale.enabled) or is_last_step:
                    warnings = weight_warnings(self.initial_weights, state, is_last_step=is_last_step)
                    self._report_warnings("weights", warnings, keep=is_last_step)
                checkpoint_is_due = state.step % spec.checkpoint.every == 0 or (is_best and self._keeps_best())
                if is_last_step or stop_signal or checkpoint_is_due:
                    self.ranks.on_all_ranks(metrics.sync)  # a checkpoint must not be newer than its metrics
                    self.ranks.on_main_rank(partial(self.store_check.raise_if_damaged, wait=is_last_step))
                    self._save_checkpoint()
                if stop_signal and not is_last_step:
                    raise self.ranks.as_collective(
                        Interrupted(
                            f"{self.folder.path}: {stop_signal} at step {state.step}. A checkpoint was saved; continue "
                            "with --resume"
                        )
                    )
        if state.step < self.run_length.n_steps and self.run_length.is_done():
            self.progress.report(f"early stopping: the best evaluation is that of step {state.best_step}")
        self._report_warnings("early_stopping", early_stop_warnings(self.schedule, state, self.run_length), keep=True)

    def prefetch_batches(self) -> AbstractContextManager[Prefetcher[list[MicroBatch]]]:
        """Return a context with a loader of this rank's batches."""
        return prefetch(self._load_micro_batches)

    def train_one_step(self, prefetcher: Prefetcher[list[MicroBatch]]) -> dict[str, Any]:
        """Get the next batch and train on it. Return the metrics row."""
        first = self.train_state.samples
        get_batch = partial(prefetcher.get, first, first + self.spec.batch_size)
        return self._train_on(self.ranks.on_all_ranks(get_batch))

    def _report_warnings(self, topic: str, warnings: Sequence[str], *, keep: bool) -> None:
        """Print warnings, and if `keep` replace those about the topic in warnings.json."""
        for warning in warnings:
            self.progress.report(as_warning(warning))
        if keep:
            self.ranks.on_main_rank(lambda: self.folder.write_warnings(topic, warnings))

    def _load_micro_batches(self, first_sample: int) -> list[MicroBatch]:
        """Return this rank's micro-batches of the batch that starts with sample number `first_sample`."""
        return split_into_micro_batches(
            self.batching.train_batch(first_sample, self.spec.batch_size),
            self.micro_batch_size,
            pin_memory=self.device.type == "cuda",
            rank=self.ranks.data_rank,
            n_ranks=self.ranks.data_size,
        )

    def _train_on(self, micro_batches: Sequence[MicroBatch]) -> dict[str, Any]:
        """Do one optimizer step on a batch, or skip it if its gradient is not finite. Return the metrics row."""
        self.timer.start()
        state, train_step = self.train_state, self.train_step
        lr_factor = self.schedule.lr_factor(state.step)

        gradient = train_step.accumulate_gradients(micro_batches, state.step)
        self.timer.gradient_arrived()
        scale_was_lowered = train_step.loss_scale.update(gradient.is_finite)
        fp16_overflow = scale_was_lowered and gradient.losses_are_finite

        self.monitor.before_optimizer_step(state.step + 1)
        if gradient.is_finite:
            train_step.clip_gradients(gradient.total_norm)
            train_step.set_learning_rates(lr_factor)
            train_step.optimizer_step(state.step)
            train_step.zero_grad()
            train_step.update_sublayers(gradient.metrics)
        elif fp16_overflow or state.skipped_in_a_row < self.spec.skip_non_finite:
            train_step.zero_grad()
        else:
            raise diagnose_divergence(self.folder, state, train_step, gradient, micro_batches)

        state.record_update(skipped=not gradient.is_finite and not fp16_overflow)
        state.step += 1
        state.samples += self.spec.batch_size
        if self.ema is not None:
            self.ema.update(state.step)

        tokens_per_second = self.spec.batch_size * self.tokens_per_sample / self.timer.stop()
        row = {
            "step": state.step,
            "tokens": state.samples * self.tokens_per_sample,
            **gradient.metric_values,
            "lr": train_step.peak_lrs[0] * lr_factor,
            "grad_norm": gradient.norm,
        }
        if train_step.loss_scale.enabled:
            row["loss_scale"] = train_step.loss_scale.value
        if state.skipped:
            row["skipped"] = state.skipped
        row["tokens_per_second"] = tokens_per_second
        if self.monitor.measures(state.step):
            self.timer.pause()
        return row | self.monitor.after_optimizer_step(tokens_per_second)

    def _evaluate(self) -> tuple[dict[str, float], bool]:
        """Evaluate the model and update `train_state`. Return the metrics, and True if the loss is the best so far."""
        self.timer.pause()
        with activity(f"evaluating at step {self.train_state.step:,}"), self.train_step.evaluation_weights():
            metrics = self._validation_metrics(self.batching)
            for name, batching in self.evaluation_sets.items():
                of_set = self._validation_metrics(batching)
                metrics |= {f"val/{name}/{key.removeprefix('val/')}": value for key, value in of_set.items()}
            metrics |= self.monitor.evaluation_metrics(self.batching)
            self.parallelized.reshard()
        if self.ema is not None:
            with self.ema.swapped_in():
                metrics["val/ema_loss"] = self._validation_metrics(self.batching)["val/loss"]
        stopping = self.spec.early_stopping
        min_delta = 0.0 if stopping is None else stopping.min_delta
        is_best = self.train_state.record_evaluation(metrics["val/loss"], min_delta)
        return metrics, is_best

    def _validation_metrics(self, batching: Batching) -> dict[str, float]:
        try:
            measurement = measure(
                self.model,
                batching.validation_batches(MAX_TOKENS_PER_BATCH),
                n_bytes=batching.val_bytes,
                scorer=batching,
                precision=self.precision,
                ranks=self.ranks,
            )
        except LogitsError as error:
            raise diverged_evaluation(self.folder, self.train_state, self.ranks, error) from None
        self.parallelized.reshard()
        return measurement.as_run_metrics()

    def _keeps_best(self) -> bool:
        return self.spec.checkpoint.best or self.spec.early_stopping is not None

    def _save_checkpoint(self) -> None:
        self.timer.pause()
        step, checkpoints = self.train_state.step, self.folder.checkpoints
        best = self.train_state.best_step if self._keeps_best() else None
        self.observers.before_checkpoint()
        with self.train_step.evaluation_weights() as trained_weights:
            contents = CheckpointContents(
                parallelized=self.parallelized,
                tokenizer=self.tokenizer,
                state={"standing": asdict(self.train_state), "loss_scale": self.train_step.loss_scale.state_dict()},
                optimizer=self.train_step.optimizer,
                parameters=self.parameters,
                ema=None if self.ema is None else self.ema.values,
                trained_weights=trained_weights,
            )
            save_on_all_ranks(contents, checkpoints, step, self.ranks, keep=self.spec.checkpoint.keep, best=best)
        self.observers.after_checkpoint(step, checkpoint_path(checkpoints, step))
