"""The training loop. It knows no component by name, and a run that was killed and resumed is bitwise the same run.

Everything that happens in a step is a function of (spec, step): the batch, the learning rate, the dropout masks. What
is left to keep is the model, the optimizer, and how far the run is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gptzoo.checkpoint.checkpoints import checkpoint_path, newest_valid
from gptzoo.data.token_store import prepare
from gptzoo.errors import Diverged, FolderError, GptzooError, InputError, Interrupted
from gptzoo.model.build import build
from gptzoo.spec.files import load_run_spec
from gptzoo.spec.run import RunSpec
from gptzoo.training.distributed.optimizer_check import refuse_if_not_shardable
from gptzoo.training.distributed.parallelize import own_device, processes, spread, told_of_the_lost
from gptzoo.training.distributed.ranks import ALONE, Ranks
from gptzoo.training.evaluation.full_pass import EVALUATED_AT_ONCE, evaluate
from gptzoo.training.hardware.device import choose_precision, float32_products, undisturbed_rng
from gptzoo.training.optim.ema import EMA
from gptzoo.training.run.checkpoint import Contents, save
from gptzoo.training.run.metrics_file import appending, cut, read, without_nan
from gptzoo.training.run.optimizer_state import read_training_state
from gptzoo.training.run.run_folder import Change, RunFolder
from gptzoo.training.run.run_view import RunView, Status
from gptzoo.training.run.stop_request import listen_for_stop
from gptzoo.training.run.train_state import TrainState
from gptzoo.training.setup import describe_means, set_objective, take_weights, trained, with_vocabulary
from gptzoo.training.step.block_options import prepare_blocks
from gptzoo.training.step.micro_batch_size import resolve_micro_batch_size
from gptzoo.training.step.prefetch import prefetch
from gptzoo.training.step.train_step import Gradient, MicroBatch, Update, micro_batches
from gptzoo.training.tracking.dispatch import watched
from gptzoo.training.tracking.monitors import Measures
from gptzoo.training.tracking.progress import Progress, show_progress


@dataclass(frozen=True)
class TrainResult:
    """Where a run is that has ended or pauses, how many steps it has made, and its last row of metrics."""

    folder: Path
    steps: int
    metrics: Mapping[str, Any]
    opening: str  # how the validation text begins: a prompt that suits any tokenizer
    best_step: int | None  # of the evaluation with the lowest validation loss
    paused: bool = False


def train(
    spec: RunSpec | str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    resume: bool = False,
    extend: bool = False,
    override: bool = False,
    until: int | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Train what a run spec describes, into the folder `out`.

    With `resume` it goes on from the newest valid checkpoint there, or starts at step 0 if there is none. With `extend`
    also if the spec's length is another than before, and with `override` whatever else is: the run is then that of the
    new spec from here on, and changes.jsonl keeps what changed. With `until` it pauses after that step, saved: what is
    resumed later is bitwise the run that did not pause.
    Raises SpecError, DataError and FolderError for wrong input, Diverged when the loss or the gradient stops being
    finite (before the update that would spread it), and Interrupted after saving when a signal asked it to stop.
    Started by torchrun, all processes train this one run together; they return and raise alike.
    """
    if not isinstance(spec, RunSpec):
        spec = load_run_spec(spec)
    if until is not None and until < 1:
        raise InputError(f"until: a run pauses after a step that it has made, 1 at the least, not {until}")
    folder = RunFolder(out)
    may_change: Change = "anything" if override else "length" if extend else "nothing"
    with processes(spec) as ranks, contextlib.ExitStack() as held, undisturbed_rng(own_device(spec.device)):
        opened = folder.open(resume=resume or may_change != "nothing")
        ranks.on_main(lambda: held.enter_context(opened))
        trainer = ranks.everywhere(lambda: Trainer(spec, folder, ranks))
        return trainer.run(may_change, until=until, quiet=quiet)


class Trainer:
    """One run: its data, model and optimizer, and how far it is."""

    def __init__(self, spec: RunSpec, folder: RunFolder, ranks: Ranks = ALONE):
        self.folder = folder
        self.ranks = ranks
        self.trackers = [tracker.build() for tracker in spec.trackers]  # first: one that lacks its library says so now
        self.device = device = own_device(spec.device)
        self.precision = choose_precision(spec.precision, self.device)
        self.tokenizer, self.store = prepare(spec.corpus.build(), spec.tokenizer)
        self.spec = spec = with_vocabulary(spec, self.store.vocab_size)
        self.tokenizer.encode(spec.sample.prompt or "")  # a prompt that it cannot read is told now, not after the run
        self.length = spec.model.context_length
        self.batching = spec.batching.build(self.store, self.tokenizer, self.length, spec.seed)
        cut = spec.parallel.shard > 1 or spec.parallel.tensor > 1
        self.model = build(spec.model, device="cpu" if cut else device, seed=spec.seed).train()
        set_objective(self.model, spec)
        names = trained(self.model, spec.freeze)
        prepare_blocks(self.model, compile=spec.compile, recompute=spec.activation_checkpointing)
        self.spread = spread(self.model, spec.parallel, ranks, device)
        parameters = self.spread.parameters()  # others than before, if they are cut now
        self.parameters = {name: parameters[name] for name in names}
        if cut:
            refuse_if_not_shardable(spec, next(iter(self.parameters.values())))
        self.update = Update(spec, self.spread, self.parameters, device=device, precision=self.precision)
        self.measures = Measures(
            spec, self.model, self.parameters, device=device, precision=self.precision, ranks=ranks
        )
        self.standing = TrainState()

    def run(self, may_change: Change = "nothing", *, until: int | None = None, quiet: bool = False) -> TrainResult:
        """Resume if there is something to resume, train to the end or until the step where it pauses, save."""
        self.until = until
        notes = [describe_means(self.spec, self.device, self.precision, self.update.optimizer)]
        fingerprint = self.store.fingerprint
        changed = self.ranks.on_main(
            lambda: self.folder.record(self.spec, self.device, fingerprint, notes.append, may_change=may_change)
        )
        self.micro_batch_size = resolve_micro_batch_size(
            self.spec, self.update, self.batching, self.folder, notes.append
        )
        self._begin(notes)
        self.n_steps = self.standing.last_step(self.spec, self.batching.n_samples)
        if self.standing.step > self.n_steps:
            raise self.ranks.agreed(
                FolderError(
                    f"{self.folder.path}: has made {self.standing.step} steps already, which is over {self.n_steps}"
                )
            )
        self.schedule = self.spec.schedule.build(self.n_steps)
        if changed:
            self.ranks.on_main(lambda: self.folder.note_changes(self.spec, fingerprint, self.standing.step, changed))
            notes += [f"changed at step {self.standing.step}: {change}" for change in changed]
        kept = self.standing.step or -1  # without a checkpoint, the row of step 0 is made again too
        self.ranks.on_main(lambda: cut(self.folder.metrics, kept))
        view = RunView(self.spec, self.folder.path, self.n_steps, kept, str(self.device))
        with (
            contextlib.ExitStack() as held,
            told_of_the_lost(),
            float32_products(self.precision),
            show_progress(self.n_steps, self.standing.step, quiet=quiet or not self.ranks.main) as progress,
        ):
            self.ranks.on_main(lambda: held.enter_context(self.folder.status(self._ending)))
            for note in notes:
                progress.say(note)
            with watched(view, self.model, self.trackers, progress.say, self.ranks, self._ending) as self.watch:
                self._loop(progress)
        opening = self.tokenizer.decode(self.batching.opening())
        last = self.ranks.on_main(lambda: read(self.folder.metrics)[-1])
        paused = self._ending() == "paused"
        return TrainResult(self.folder.path, self.standing.step, last, opening, self.standing.best_step, paused)

    def _loop(self, progress: Progress) -> None:
        spec, standing = self.spec, self.standing
        with (
            listen_for_stop() as stop,
            contextlib.ExitStack() as held,
            prefetch(self._batch) as batches,
        ):
            record = appending(self.folder.metrics, keep=self.ranks.main)
            metrics = self.ranks.everywhere(lambda: held.enter_context(record))
            if standing.step == 0:
                row = without_nan({"step": 0, **self._evaluate()[0]})
                self.ranks.everywhere(partial(metrics.add, row))
                self._show(progress, row)
            while not self._ended():
                following = standing.samples + spec.batch_size
                parts = self.ranks.everywhere(partial(batches.get, standing.samples, following))
                row = self._update(parts)
                best = False
                if standing.step == self.n_steps or standing.step % spec.eval.every == 0:
                    measured, best = self._evaluate()
                    row |= measured
                row = without_nan(row)
                stopped = stop.agreed(self.ranks, partial(metrics.add, row))
                self._show(progress, row)
                ended = self._ended()
                if ended or stopped or standing.step % spec.checkpoint.every == 0 or (best and self._keeps_best()):
                    self.ranks.everywhere(metrics.sync)  # no checkpoint may be newer than its metrics
                    self._save()
                if stopped and not ended:
                    raise self.ranks.agreed(
                        Interrupted(
                            f"{self.folder.path}: {stopped} at step {standing.step}: saved; go on with --resume"
                        )
                    )
        if standing.step < self.n_steps and self._ending() == "done":
            progress.say(f"ended early: no evaluation since step {standing.best_step} was better")

    # ------------------------------------------------------------------ one step

    def _batch(self, first: int) -> list[MicroBatch]:
        """The batch whose first sample is number `first`."""
        batch = self.batching.train(first, self.spec.batch_size)
        rank, n_ranks = self.ranks.data_rank, self.ranks.data_size
        pinned = self.device.type == "cuda"
        return micro_batches(batch, self.micro_batch_size, pinned=pinned, rank=rank, n_ranks=n_ranks)

    def _update(self, parts: Sequence[MicroBatch]) -> dict[str, Any]:
        """Make one update with a batch; returns the step's row of metrics."""
        started = time.perf_counter()
        step = self.standing.step
        factor = self.schedule.factor(step)
        gradient = self.update.gradient(parts, step)
        overflow = self.update.loss_scale.update(gradient.finite) and gradient.losses_are_finite
        self.measures.before_update(step + 1)
        if gradient.finite:
            self.update.apply(gradient, factor)
        else:
            if not overflow and self.standing.skipped_in_a_row >= self.spec.skip_non_finite:
                raise self._diverged(gradient, parts)
            self.update.discard()
        self.standing.note_skipped(not gradient.finite and not overflow)
        self.standing.step += 1
        self.standing.samples += self.spec.batch_size
        if self.averages is not None:
            self.averages.update(self.standing.step)
        scale = {"loss_scale": self.update.loss_scale.value} if self.update.loss_scale.enabled else {}
        skipped = {"skipped": self.standing.skipped} if self.standing.skipped else {}
        tokens_per_second = self.spec.batch_size * self.length / (time.perf_counter() - started)
        return {
            "step": self.standing.step,
            "tokens": self.standing.samples * self.length,
            **{name: value.tolist() for name, value in gradient.measured.items()},
            "lr": self.update.peak_lrs[0] * factor,
            "grad_norm": gradient.norm,
            **scale,
            **skipped,
            "tokens_per_second": tokens_per_second,
            **self.measures.after_optimizer_step(tokens_per_second),
        }

    def _diverged(self, gradient: Gradient, parts: Sequence[MicroBatch]) -> GptzooError:
        what, rows, where = self.update.explain(gradient, parts, self.standing.step)
        first = self.standing.samples + rows.start
        kept = newest_valid(self.folder.checkpoints) if self.ranks.main else None
        return self.ranks.agreed(
            Diverged(
                f"{self.folder.path}: the {what}, over samples {first} to {first + len(rows) - 1}; {where}. "
                "The update was not made. "
                f"{f'The last checkpoint is {kept.name}.' if kept else 'There is no checkpoint yet.'} "
                "Try a lower learning rate, a longer warmup or clip_norm."
            )
        )

    # ------------------------------------------------------------------ measuring and keeping

    def _evaluate(self) -> tuple[dict[str, float], bool]:
        """What the validation text says of the model, and whether that is the best so far."""
        measured = self._measure() | self.measures.at_evaluation(self.batching)
        self.spread.rest()
        if self.averages is not None:
            with self.averages.in_place():
                measured["val/ema_loss"] = self._measure()["val/loss"]
        stopping = self.spec.early_stopping
        best = self.standing.judge(measured["val/loss"], 0.0 if stopping is None else stopping.min_delta)
        return measured, best

    def _measure(self) -> dict[str, float]:
        batches = self.batching.val(EVALUATED_AT_ONCE)
        n_bytes = self.batching.val_bytes
        found = evaluate(self.model, batches, n_bytes=n_bytes, precision=self.precision, ranks=self.ranks)
        self.spread.rest()
        return found

    def _finished(self) -> bool:
        stopping = self.spec.early_stopping
        patient = stopping is None or self.standing.evaluations_since_best < stopping.patience
        return self.standing.step >= self.n_steps or not patient

    def _ended(self) -> bool:
        """Whether this process has made all the steps that it was to make."""
        return self._finished() or (self.until is not None and self.standing.step >= self.until)

    def _ending(self) -> Status:
        return "done" if self._finished() else "paused"

    def _keeps_best(self) -> bool:
        return self.spec.checkpoint.best or self.spec.early_stopping is not None

    def _show(self, progress: Progress, row: Mapping[str, Any]) -> None:
        progress.step(row)
        self.watch.row(row)

    def _save(self) -> None:
        state = {"standing": asdict(self.standing), "loss_scale": self.update.loss_scale.state()}
        averages = None if self.averages is None else self.averages.values
        contents = Contents(self.spread, self.tokenizer, state, self.update.optimizer, self.parameters, averages)
        keep, best = self.spec.checkpoint.keep, self.standing.best_step if self._keeps_best() else None
        self.watch.before_checkpoint()
        save(contents, self.folder.checkpoints, self.standing.step, self.ranks, keep=keep, best=best)
        self.watch.checkpoint(self.standing.step, checkpoint_path(self.folder.checkpoints, self.standing.step))

    # ------------------------------------------------------------------ beginning

    def _begin(self, notes: list[str]) -> None:
        """Start where the newest valid checkpoint is, or else with the weights that the spec asks for."""
        checkpoint = self.ranks.on_main(lambda: newest_valid(self.folder.checkpoints, notes.append))
        self.ranks.everywhere(lambda: self._restore(checkpoint, notes))

    def _restore(self, checkpoint: Path | None, notes: list[str]) -> None:
        if checkpoint is not None:
            self.spread.load(checkpoint)
        elif self.spec.init_from is not None:
            notes.append(take_weights(self.spread.load, self.spec.init_from, self.tokenizer))
        decay = self.spec.ema_decay
        self.averages = None if decay is None else EMA(self.parameters, decay)
        if checkpoint is not None:
            averages = None if self.averages is None else self.averages.values
            state = read_training_state(
                checkpoint, self.update.optimizer, self.parameters, averages, self.spread.orders
            )
            self.standing = TrainState(**state["standing"])
            self.update.loss_scale.restore(state["loss_scale"])
            notes.append(f"resumed at step {self.standing.step}")
