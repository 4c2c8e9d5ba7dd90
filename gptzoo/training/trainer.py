"""The training loop. It knows no component by name, and a run that was killed and resumed is bitwise the same run.

Everything that happens in a step is a function of (spec, step): the batch, the learning rate, the dropout masks. What
is left to keep is the model and the optimizer.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors import SafetensorError
from torch import Tensor

from gptzoo.checkpoint.checkpoints import newest_valid, save_checkpoint
from gptzoo.checkpoint.folder import load_weights, write_model_files
from gptzoo.components.base import Architecture, Observations, Sublayer
from gptzoo.data.batching import Batch
from gptzoo.data.store import prepare
from gptzoo.errors import DataError, Diverged, FolderError, Interrupted
from gptzoo.model.build import build
from gptzoo.seeds import derive
from gptzoo.spec.files import load_run_spec
from gptzoo.spec.run import RunSpec
from gptzoo.training.blocks import prepare_blocks
from gptzoo.training.device import autocast, choose_device, choose_precision
from gptzoo.training.diagnosis import origin_of_gradient, origin_of_non_finite
from gptzoo.training.evaluate import evaluate, n_targets, on_device
from gptzoo.training.progress import Progress, show_progress
from gptzoo.training.run_folder import RunFolder
from gptzoo.training.state import read_training_state, write_training_state
from gptzoo.training.stop import listen_for_stop

_METRICS = "model/"  # before the names of what sublayers measure
_EVALUATED_AT_ONCE = 16384  # tokens; bounds memory, the result does not depend on it


@dataclass(frozen=True)
class TrainResult:
    """Where a finished run is, and its last row of metrics."""

    folder: Path
    steps: int
    metrics: Mapping[str, Any]
    opening: str  # how the validation text begins: a prompt that suits any tokenizer


def train(
    spec: RunSpec | str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    resume: bool = False,
    extend: bool = False,
    quiet: bool = False,
) -> TrainResult:
    """Train what a run spec describes, into the folder `out`.

    With `resume` it goes on from the newest valid checkpoint there, or starts at step 0 if there is none. With `extend`
    also if the spec's length is another than before: the schedule is then that of the new length from here on.
    Raises SpecError, DataError and FolderError for wrong input, Diverged when the loss or the gradient stops being
    finite (before the update that would spread it), and Interrupted after saving when a signal asked it to stop.
    """
    if not isinstance(spec, RunSpec):
        spec = load_run_spec(spec)
    folder = RunFolder(out)
    with folder.open(resume=resume or extend), torch.random.fork_rng():
        return Trainer(spec, folder).run(extend=extend, quiet=quiet)


class Trainer:
    """One run: its data, model and optimizer, and the step that it is at."""

    def __init__(self, spec: RunSpec, folder: RunFolder):
        self.folder = folder
        self.device = choose_device(spec.device)
        self.precision = choose_precision(spec.precision, self.device)
        self.tokenizer, self.store = prepare(spec.corpus.build(), spec.tokenizer)
        self.spec = spec = _with_vocabulary(spec, self.store.vocab_size)
        self.tokenizer.encode(spec.sample.prompt or "")  # a prompt that it cannot read is told now, not after the run
        self.length = spec.model.context_length
        self.batching = spec.batching.build(self.store, self.tokenizer, self.length, spec.seed)
        self.n_steps = _n_steps(spec, self.batching.n_samples)
        self.model = build(spec.model, device=self.device, seed=spec.seed).train()
        prepare_blocks(self.model, compile=spec.compile, recompute=spec.activation_checkpointing)
        self.parameters = dict(self.model.named_parameters())
        self.optimizer = spec.optimizer.build().create(self.parameters)
        self.peak_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.schedule = spec.schedule.build(self.n_steps)
        self.step = 0  # updates done

    def run(self, *, extend: bool = False, quiet: bool = False) -> TrainResult:
        """Resume if there is something to resume, train to the end, save."""
        notes: list[str] = []
        self.folder.record(self.spec, self.device, self.store.fingerprint, notes.append, extend=extend)
        self._resume(notes.append)
        if self.step > self.n_steps:
            raise FolderError(f"{self.folder.path}: has made {self.step} steps already, which is over {self.n_steps}")
        if extend:
            self.folder.replace_spec(self.spec)
        self.folder.cut_metrics(self.step or -1)  # without a checkpoint, the row of step 0 is made again too
        with show_progress(self.n_steps, self.step, quiet=quiet) as progress:
            for note in notes:
                progress.say(note)
            with listen_for_stop() as stop, open(self.folder.metrics, "a", encoding="utf-8", buffering=1) as metrics:
                if self.step == 0:
                    self._record(metrics, progress, {"step": 0, **self._evaluate()})
                while self.step < self.n_steps:
                    row = self._update()
                    last = self.step == self.n_steps
                    if last or self.step % self.spec.eval.every == 0:
                        row |= self._evaluate()
                    self._record(metrics, progress, row)
                    if last or stop or self.step % self.spec.checkpoint.every == 0:
                        os.fsync(metrics.fileno())  # no checkpoint may be newer than its metrics
                        self._save()
                    if stop and not last:
                        raise Interrupted(
                            f"{self.folder.path}: {stop.signal_name} at step {self.step}: saved; go on with --resume"
                        )
        opening = self.tokenizer.decode(self.batching.opening())
        return TrainResult(self.folder.path, self.n_steps, self.folder.read_metrics()[-1], opening)

    # ------------------------------------------------------------------ one update

    def _update(self) -> dict[str, Any]:
        """One optimizer step over `batch_size` sequences, in micro-batches; returns its row of metrics."""
        started = time.perf_counter()
        batch = self.batching.train(self.step * self.spec.batch_size, self.spec.batch_size)
        total = n_targets(batch)
        sums: dict[str, Tensor] = {}
        for micro, part in enumerate(parts := list(self._micro_batches(batch))):
            share = n_targets(part) / total  # each target counts the same, whatever micro-batch it is in
            for name, value in self._forward_backward(part, micro, share).items():
                sums[name] = sums.get(name, 0.0) + share * value

        grad_norm = self._clipped(parts)
        factor = self.schedule.factor(self.step)
        for group, peak in zip(self.optimizer.param_groups, self.peak_lrs, strict=True):
            group["lr"] = peak * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        _after_update(self.model, sums)
        self.step += 1
        n_tokens = self.spec.batch_size * self.length
        return {
            "step": self.step,
            "tokens": self.step * n_tokens,
            **{name: value.tolist() for name, value in sums.items()},
            "lr": self.peak_lrs[0] * factor,
            "grad_norm": grad_norm,
            "tokens_per_second": n_tokens / (time.perf_counter() - started),
        }

    def _micro_batches(self, batch: Batch) -> Iterator[Batch]:
        size = self.spec.micro_batch_size or self.spec.batch_size
        for first in range(0, self.spec.batch_size, size):
            yield {name: array[first : first + size] for name, array in batch.items()}

    def _clipped(self, parts: Sequence[Batch]) -> float:
        """Scale the gradients down to clip_norm where they are longer; returns how long they were."""
        parameters = [parameter for parameter in self.parameters.values() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        if not math.isfinite(value := norm.item()):
            inputs = (on_device(part, self.device) for part in parts)
            losses = [partial(self._loss, batch, micro) for micro, batch in enumerate(inputs)]
            where = origin_of_gradient(self.model, losses)
            raise self._diverged("gradient norm", value, 0, self.spec.batch_size, where)
        if self.spec.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.spec.clip_norm, norm)
        return value

    def _forward_backward(self, part: Batch, micro: int, share: float) -> dict[str, Tensor]:
        """Add the gradients of one micro-batch, which is `share` of the batch; returns what it measured."""
        inputs = on_device(part, self.device)
        loss, seen = self._forward(inputs, micro)
        (loss * share).backward()
        extra = {f"train/{name}": value.detach().double() for name, value in seen.losses.items()}
        measured = {"train/loss": loss.detach().double() - sum(extra.values()), **extra}
        measured |= {f"{_METRICS}{name}": value.detach().double() for name, value in seen.metrics.items()}
        if not math.isfinite(value := loss.item()):
            size = len(part["targets"])
            where = origin_of_non_finite(self.model, partial(self._loss, inputs, micro))
            raise self._diverged("loss", value, micro * size, size, where)
        return measured

    def _forward(self, inputs: dict[str, Tensor], micro: int) -> tuple[Tensor, Observations]:
        torch.manual_seed(derive(self.spec.seed, "dropout", self.step, micro))  # so masks need no state to resume
        seen = Observations()
        with autocast(self.device, self.precision):
            _, loss = self.model(**inputs, observations=seen)
        return loss, seen

    def _loss(self, inputs: dict[str, Tensor], micro: int) -> Tensor:
        return self._forward(inputs, micro)[0]

    def _diverged(self, what: str, value: float, first: int, count: int, where: str) -> Diverged:
        first += self.step * self.spec.batch_size
        kept = newest_valid(self.folder.checkpoints)
        return Diverged(
            f"{self.folder.path}: the {what} of step {self.step + 1} is {value}, over samples {first} to "
            f"{first + count - 1}; {where}. The update was not made. "
            f"{f'The last checkpoint is {kept.name}.' if kept else 'There is no checkpoint yet.'} "
            "Try a lower learning rate, a longer warmup or clip_norm."
        )

    # ------------------------------------------------------------------ measuring and keeping

    def _evaluate(self) -> dict[str, float]:
        batches = self.batching.val(_EVALUATED_AT_ONCE)
        return evaluate(self.model, batches, n_bytes=self.batching.val_bytes, precision=self.precision)

    def _record(self, metrics: TextIO, progress: Progress, row: Mapping[str, Any]) -> None:
        metrics.write(json.dumps(row) + "\n")
        progress.step(row)

    def _save(self) -> None:
        def write(folder: Path) -> None:
            write_model_files(folder, self.model, self.tokenizer)
            write_training_state(folder, self.step, self.optimizer, self.parameters)

        try:
            save_checkpoint(self.folder.checkpoints, self.step, write, keep=self.spec.checkpoint.keep)
        except (OSError, SafetensorError) as error:
            raise FolderError(
                f"{self.folder.checkpoints}: the checkpoint of step {self.step} cannot be written: {error}. "
                "Those before it are whole; make room and go on with --resume"
            ) from error

    def _resume(self, report: Any) -> None:
        checkpoint = newest_valid(self.folder.checkpoints, report)
        if checkpoint is None:
            return
        load_weights(self.model, checkpoint)
        self.step = read_training_state(checkpoint, self.optimizer, self.parameters)
        report(f"resumed at step {self.step}")


def _with_vocabulary(spec: RunSpec, vocab_size: int) -> RunSpec:
    """The run with a model whose vocabulary is the tokenizer's, or checked to hold it."""
    own = spec.model.vocab_size
    if own is None:
        return spec.model_copy(update={"model": spec.model.model_copy(update={"vocab_size": vocab_size})})
    if own < vocab_size:
        raise DataError(
            f"{spec.name}: $.model.vocab_size: {own} is too small for tokenizer {spec.tokenizer.type!r}, which has "
            f"{vocab_size} ids; leave vocab_size out to take the tokenizer's"
        )
    return spec


def _after_update(model: Architecture, measured: Mapping[str, Tensor]) -> None:
    """Hand each sublayer the metrics of the update that it emitted itself."""
    for path, module in model.named_modules():
        if isinstance(module, Sublayer):
            prefix = f"{_METRICS}{path}."
            module.after_update({k.removeprefix(prefix): v for k, v in measured.items() if k.startswith(prefix)})


def _n_steps(spec: RunSpec, n_samples: int) -> int:
    if spec.steps is not None:
        return spec.steps
    if spec.tokens is not None:
        return math.ceil(spec.tokens / (spec.batch_size * spec.model.context_length))
    assert spec.epochs is not None  # the spec says one of the three
    return math.ceil(spec.epochs * n_samples / spec.batch_size)
