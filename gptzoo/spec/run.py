"""The spec of one training run: a model, what it learns from, and how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Strict,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails

from gptzoo.component import SpecModel, custom_error, error_at
from gptzoo.reference import Reference, by_default
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.paths import PathOption


def _count_or_auto(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise custom_error('give a number above 0, "auto" or null')


CountOrAuto = Annotated[PositiveInt | Literal["auto"], BeforeValidator(_count_or_auto)]


class EvalSpec(SpecModel):
    """Evaluation: one full pass over the held-out text, the same whatever the batch size or the seed."""

    every: PositiveInt = 250
    """Optimizer steps between two evaluations; the first is before step 1, the last after the final step."""


class CheckpointSpec(SpecModel):
    """When checkpoints are written and how many are kept."""

    every: PositiveInt = 250
    """Optimizer steps between two checkpoints; there is always one after the final step."""
    keep: int = Field(default=2, ge=2)
    """The newest so many are kept: at least two, so that a damaged one has a predecessor."""
    best: bool = False
    """Save at every evaluation that is the best so far, and keep the best whatever its age."""


class EarlyStoppingSpec(SpecModel):
    """When a run ends before its time because it does not get better any more."""

    patience: PositiveInt
    """Evaluations in a row without a new best, after which the run ends."""
    min_delta: NonNegativeFloat = 0.0
    """By how much the validation loss must fall to be a new best."""


class ParallelSpec(SpecModel):
    """Over how many processes a run is spread: `replicate` times `shard` or `tensor`, started by torchrun."""

    replicate: CountOrAuto = "auto"
    """Copies of the model, each of which learns from its part of every batch. auto: as many as there are processes
    for; a process by itself is one."""
    shard: PositiveInt = 1
    """Processes that share the weights, their gradients and the optimizer's state of one copy among them."""
    tensor: PositiveInt = 1
    """Processes that share each product of matrices of one copy: attention its heads, networks their hidden units.
    Each part of a block must offer a plan for it. It does not go with `shard`."""


class WatchSpec(SpecModel):
    """What is measured of a run beside loss, gradient and speed."""

    every: PositiveInt | None = 100
    """Optimizer steps between two measurements of how far weights move and of memory; null makes none, nor those of
    attention at evaluations."""
    peak_tflops: PositiveFloat | None = None
    """What one device could do at best, for `mfu`; left out, what is known of the GPU. Of CPUs nothing is known."""


class SampleSpec(SpecModel):
    """The text that a run writes when it ends."""

    prompt: str | None = None
    """Left out, the first words of the validation text."""
    max_new_tokens: NonNegativeInt = 200
    """0 writes nothing."""
    temperature: NonNegativeFloat = 0.8
    """0 is greedy."""


class RunSpec(SpecModel):
    """A training run, described. With the same code, machine and threads it is the same run, bit by bit."""

    spec_version: Literal[1] = 1
    """Of this format."""
    name: str = "run"
    """What curves and errors call it."""
    model: ModelSpec
    """The model, inline or as the path of a model spec, relative to this file."""
    corpus: Annotated[Any, Reference("corpus")] = by_default("stories")
    tokenizer: Annotated[Any, Reference("tokenizer")] = by_default("byte")
    batching: Annotated[Any, Reference("batching")] = by_default("windows")
    batch_size: PositiveInt = 32
    """Sequences per optimizer step."""
    micro_batch_size: CountOrAuto | None = None
    """Sequences per forward pass of a process; left out, all that it has. It must divide batch_size. auto: as many as
    there is memory for when the run begins."""
    steps: PositiveInt | None = None
    """Length of the run in optimizer steps. Give one of steps, tokens and epochs."""
    tokens: PositiveInt | None = None
    """Length of the run in training tokens, rounded up to whole steps."""
    epochs: PositiveFloat | None = None
    """Length of the run in passes over the training text, rounded up to whole steps."""
    optimizer: Annotated[Any, Reference("optimizer")] = by_default("adamw")
    schedule: Annotated[Any, Reference("schedule")] = by_default("cosine")
    clip_norm: PositiveFloat | None = 1.0
    """Largest global gradient norm; null does not clip."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of each target that is spread evenly over the vocabulary, in training only. What it adds to the loss is
    a metric of its own: `train/loss` stays the cross-entropy."""
    z_loss: NonNegativeFloat = 0.0
    """Weight of the squared log-normaliser of the logits, 1e-4 in PaLM; in training only, and a metric of its own."""
    ema_decay: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Keep an exponential moving average of the weights, 0.999 for example. It is measured as `val/ema_loss` and saved
    beside the weights."""
    init_from: PathOption | None = None
    """A run, a checkpoint or a model folder whose weights training starts from, instead of random ones."""
    freeze: Annotated[tuple[str, ...], Strict(False)] = ()
    """Patterns, such as `blocks.[0-5].*`, of the names of parameters that are not trained."""
    early_stopping: EarlyStoppingSpec | None = None
    """Left out, the run goes on to its end."""
    skip_non_finite: NonNegativeInt = 0
    """How many updates in a row may be left out because their loss or gradient is not finite. One more ends the run;
    0 ends it at the first."""
    seed: NonNegativeInt = 1
    """Of initial values, data order and dropout alike."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """bf16 and fp16 are autocast with fp32 weights, fp16 with a scaled loss; tf32 rounds what fp32 products take in, on
    CUDA only; auto is bf16 on a GPU that has it, else fp32."""
    compile: bool = False
    """Compile each block with torch.compile; equal blocks once. The first steps then take long."""
    activation_checkpointing: bool = False
    """Keep only what goes from block to block, and compute the rest again in the backward pass: less memory, more time,
    the same bits."""
    device: str = "auto"
    """auto is cuda where there is one, else cpu."""
    parallel: ParallelSpec = ParallelSpec()
    """More than one device or machine. The batch, and what is learned from it, stay the same."""
    eval: EvalSpec = EvalSpec()
    """How often the model is measured on held-out text."""
    checkpoint: CheckpointSpec = CheckpointSpec()
    """How often it is saved, and how many saves are kept."""
    watch: WatchSpec = WatchSpec()
    """What is measured beside loss, gradient and speed."""
    trackers: Annotated[tuple[Annotated[Any, Reference("tracker")], ...], Strict(False)] = ()
    """Where metrics go beside metrics.jsonl, which is the run's own record."""
    sample: SampleSpec = SampleSpec()
    """What it writes at the end."""

    def resolved(self) -> dict[str, Any]:
        """The spec as JSON with every default and inherited option shown; reading it gives an equal spec."""
        return self.model_dump(mode="json")

    @model_validator(mode="after")
    def _check(self) -> RunSpec:
        errors = []
        given = [name for name in ("steps", "tokens", "epochs") if getattr(self, name) is not None]
        if not given:
            errors.append(error_at("say how long the run is: give one of steps, tokens and epochs"))
        for name in given[1:]:
            errors.append(
                error_at(f"{given[0]} says already how long the run is; give one of steps, tokens and epochs", name)
            )
        if isinstance(self.micro_batch_size, int) and self.batch_size % self.micro_batch_size:
            reason = f"batch_size {self.batch_size} is not a multiple of it"
            errors.append(error_at(reason, "micro_batch_size", value=self.micro_batch_size))
        if self.parallel.tensor > 1 and self.parallel.shard > 1:
            reason = "does not go with shard yet; set one of the two to 1"
            errors.append(error_at(reason, "parallel", "tensor", value=self.parallel.tensor))
        types = [tracker.type for tracker in self.trackers]
        for index, name in enumerate(types):
            if name in types[:index]:  # both would write to the same place of the run folder
                errors.append(error_at(f"{name!r} is there already", "trackers", index, value=name))
        errors += self._batching_problems()
        if errors:
            raise ValidationError.from_exception_data("RunSpec", errors)
        return self

    def _batching_problems(self) -> Iterator[InitErrorDetails]:
        """The architecture must take what batches hold, and be given what it cannot do without."""
        batching, architecture = self.batching, self.model.architecture
        gives = batching.component.enabled_inputs(batching)
        for name in sorted(gives - architecture.component.accepted_inputs):
            reason = f"{batching.type!r} gives {name}, which architecture {architecture.type!r} does not take"
            yield error_at(reason, "batching")
        for name in sorted(architecture.component.required_inputs - gives):
            reason = f"{batching.type!r} does not give {name}, which architecture {architecture.type!r} requires"
            yield error_at(reason, "batching")
        deaf = {a.type for a in self.model.per_layer("attention") if "documents" not in a.component.supports}
        for attention in sorted(deaf) if "documents" in gives else ():
            reason = f"{batching.type!r} gives documents, which attention {attention!r} does not keep apart"
            yield error_at(reason, "batching")
