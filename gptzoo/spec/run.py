"""`RunSpec`, the spec of one training run: the model, the data and the training settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

from gptzoo import registry
from gptzoo.reference import Reference, by_default
from gptzoo.spec.hints.fields import hint_for_field
from gptzoo.spec.initial_weights import InitOption
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.width.parametrisation import NO_WIDTH_RULE
from gptzoo.strict_model import StrictModel, error_at, option_error
from gptzoo.utils.notebook.view import NotebookView


def _count_or_auto(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise option_error('expected an integer above 0, "auto" or null')


MIN_CLIP_NORM = 1e-6

PARTNERS_OF_CORPUS = ("tokenizer", "batching")
"""Fields of a run whose defaults depend on its corpus."""

CountOrAuto = Annotated[PositiveInt | Literal["auto"], BeforeValidator(_count_or_auto)]


class EvalSpec(StrictModel):
    """Evaluation schedule. An evaluation is one full pass over the validation text, independent of the seed."""

    every: PositiveInt = 250
    """Optimizer steps between evaluations. The model is also evaluated before step 1 and after the last step."""


class CheckpointSpec(StrictModel):
    """Checkpoint schedule: how often checkpoints are saved and how many are kept."""

    every: PositiveInt = 250
    """Optimizer steps between checkpoints. A checkpoint is also saved after the last step."""
    keep: int = Field(default=2, ge=2)
    """Number of latest checkpoints to keep. At least 2, so that a damaged one can be replaced by the one before it."""
    best: bool = False
    """Also save a checkpoint at each evaluation with a new lowest validation loss, and keep the best one."""


class EarlyStoppingSpec(StrictModel):
    """Early stopping: ends the run when the validation loss no longer improves."""

    patience: PositiveInt
    """Number of consecutive evaluations without a new lowest validation loss after which the run ends."""
    min_delta: NonNegativeFloat = 0.0
    """Smallest decrease of the validation loss, in nats, that counts as an improvement."""


class ParallelSpec(StrictModel):
    """Parallelism over `replicate` x `shard` or `replicate` x `tensor` processes, started by torchrun."""

    replicate: CountOrAuto = "auto"
    """Data parallelism: number of replicas of the model, each training on its share of every batch. auto: as many as
    the number of processes allows (1 without torchrun)."""
    shard: PositiveInt = 1
    """Fully sharded data parallelism (FSDP): number of processes over which weights, gradients and optimizer state of a
    replica are sharded. 1: not sharded."""
    tensor: PositiveInt = 1
    """Tensor parallelism: number of processes over which attention heads and hidden units of a replica are split. Every
    component of a block must support tensor parallelism. It cannot be combined with `shard` yet. 1: not split."""


class WatchSpec(StrictModel):
    """Training diagnostics in addition to loss, gradient norm and speed."""

    every: PositiveInt | None = 100
    """Optimizer steps between measurements of update sizes and memory. Attention statistics are measured at
    evaluations. Null: no diagnostics."""
    peak_tflops: PositiveFloat | None = None
    """Peak performance of one device in TFLOP/s, for the metric `mfu` (model FLOPs utilisation). Default: the known
    value of the GPU model; CPUs have no default."""


class SampleSpec(StrictModel):
    """The text sample that a run generates when it ends."""

    prompt: str | None = None
    """Prompt of the sample. Default: the first words of the validation text."""
    max_new_tokens: NonNegativeInt = 200
    """Maximum length, in tokens, of the text that the run generates when it ends. 0: no text."""
    temperature: NonNegativeFloat = 0.8
    """Sampling temperature. 0: greedy decoding."""


class RunSpec(StrictModel, NotebookView):
    """The spec of a training run. Runs with the same spec, code, machine and thread count are equal bit for bit."""

    spec_version: Literal[1] = 1
    """Version of the spec format."""
    name: str = "run"
    """Name of the run in plots and error messages."""
    model: ModelSpec
    """The model: an inline model spec, or the path of one relative to this file."""
    corpus: Annotated[Any, Reference("corpus")] = by_default("stories")
    """Source of the training and validation text."""
    tokenizer: Annotated[Any, Reference("tokenizer")] = by_default("byte")
    """Tokenizer. If it has to be trained, it is trained on the training text. Default: byte, or the corpus's own."""
    batching: Annotated[Any, Reference("batching")] = by_default("windows")
    """Method that cuts the token stream into training sequences. Default: windows, or the corpus's own."""
    batch_size: PositiveInt = 32
    """Sequences per optimizer step, over all processes."""
    micro_batch_size: CountOrAuto | None = None
    """Sequences per forward pass of one process; the gradients of micro-batches are accumulated. It must divide
    `batch_size`. auto: the largest that fits into memory when the run starts. Default: no accumulation."""
    steps: PositiveInt | None = None
    """Length of the run in optimizer steps. Give exactly one of `steps`, `tokens` and `epochs`."""
    tokens: PositiveInt | None = None
    """Length of the run in training tokens, rounded up to whole steps. An alternative to `steps`."""
    epochs: PositiveFloat | None = None
    """Length of the run in passes over the training text, rounded up to whole steps. An alternative to `steps`."""
    optimizer: Annotated[Any, Reference("optimizer")] = by_default("adamw")
    """Optimizer and its options, such as the learning rate."""
    schedule: Annotated[Any, Reference("schedule")] = by_default("cosine")
    """Schedule of the learning rate over the run."""
    clip_norm: PositiveFloat | None = 1.0
    """Maximum global gradient norm, at least 1e-6; larger gradients are scaled down. Null: no clipping."""
    label_smoothing: float = Field(default=0.0, ge=0.0, le=0.99)
    """Label smoothing: fraction of the target probability that is spread evenly over the vocabulary, in training only.
    The added loss is a separate metric; `train/loss` stays the cross-entropy. Above 0.99 hardly anything of the target
    is left, so nothing is trained."""
    z_loss: NonNegativeFloat = 0.0
    """Weight of the z-loss, the squared logsumexp of the logits (PaLM: 1e-4), in training only. The added loss is a
    separate metric."""
    ema_decay: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Decay per step of an exponential moving average (EMA) of the weights, such as 0.999. The EMA is evaluated as
    `val/ema_loss` and saved with the weights. Default: no EMA."""
    init_from: InitOption = None
    """Path of a run, checkpoint or model folder whose weights are the initial values, or an object that also says which
    parts come from elsewhere or are new. Default: random initialisation."""
    train_only: Annotated[tuple[str, ...], Strict(False)] = ()
    """Glob patterns of the modules or parameters to train, such as `blocks.*.ffn`. All others are frozen. `*` matches
    no dots, `**` matches them. Default: all are trained."""
    freeze: Annotated[tuple[str, ...], Strict(False)] = ()
    """Glob patterns of modules or parameters that are not trained, such as `blocks.[0-5]`. Here `*` also matches
    dots."""
    early_stopping: EarlyStoppingSpec | None = None
    """Early stopping. Default: off."""
    skip_non_finite: NonNegativeInt = 0
    """Maximum number of consecutive updates that are skipped because their loss or gradient is not finite. One more
    such update ends the run. 0: the first one ends the run."""
    seed: NonNegativeInt = 1
    """Random seed for initialisation, data order and dropout."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """Numeric precision. bf16 and fp16: autocast with fp32 weights, and loss scaling for fp16. tf32: TF32 matrix
    products (CUDA only). auto: bf16 on GPUs that support it, else fp32."""
    compile: bool = False
    """Compile the blocks with torch.compile. Equal blocks are compiled once. The first steps are slow."""
    activation_checkpointing: bool = False
    """Keep only the inputs of each block and recompute its activations in the backward pass. It saves memory, costs
    time, and leaves the results equal bit for bit."""
    device: str = "auto"
    """Device: `cpu`, `cuda`, `cuda:N`, or `mps` on a Mac. auto: cuda if available, else cpu."""
    parallel: ParallelSpec = ParallelSpec()
    """Parallelism over several processes. The batch and the training result stay the same."""
    eval: EvalSpec = EvalSpec()
    """Evaluation on the validation text."""
    checkpoint: CheckpointSpec = CheckpointSpec()
    """Checkpoints: how often to save and how many to keep."""
    watch: WatchSpec = WatchSpec()
    """Training diagnostics in addition to loss, gradient norm and speed."""
    trackers: Annotated[tuple[Annotated[Any, Reference("tracker")], ...], Strict(False)] = ()
    """Experiment trackers that receive the metrics, in addition to `metrics.jsonl` in the run folder."""
    sample: SampleSpec = SampleSpec()
    """Text sample that is generated at the end of the run."""

    @classmethod
    def _unknown_key(cls, key: str, data: Mapping[str, Any]) -> str:
        return f"no field named {key!r}" + hint_for_field(key, cls, data)

    def resolved(self) -> dict[str, Any]:
        """Return the spec as JSON with all defaults and inherited options filled in. It reads back as an equal spec."""
        return self.model_dump(mode="json")

    @property
    def tokens_per_sample(self) -> int:
        """Number of tokens of a training sample."""
        if self.corpus.component.provides == "documents":
            return self.model.context_length
        n_tokens: int = self.corpus.build().sample_length
        return n_tokens

    @property
    def declared_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that the corpus or the batching declares: shares of right answers, such as accuracy."""
        of_corpus = getattr(self.corpus.component, "metric_names", ())
        return tuple(dict.fromkeys((*of_corpus, *self.batching.component.metric_names)))

    @model_validator(mode="before")
    @classmethod
    def _take_partners_of_corpus(cls, value: object) -> object:
        """Fill in the tokenizer and the batching that the corpus names, if the spec has none."""
        if not isinstance(value, Mapping) or "corpus" not in value:
            return value
        corpus = value["corpus"]
        name = corpus.get("type") if isinstance(corpus, Mapping) else getattr(corpus, "type", corpus)
        component = registry.current().of_kind("corpus").get(name) if isinstance(name, str) else None
        if component is None:  # the field `corpus` reports it
            return value
        partners = {kind: getattr(component, f"default_{kind}") for kind in PARTNERS_OF_CORPUS}
        return {**partners, **value}

    @model_validator(mode="after")
    def _check(self) -> RunSpec:
        errors = []
        lengths = [name for name in ("steps", "tokens", "epochs") if getattr(self, name) is not None]
        if not lengths:
            errors.append(error_at("the length of the run is not set. Give one of steps, tokens and epochs."))
        for name in lengths[1:]:
            reason = f"{lengths[0]} sets the length of the run already. Give only one of steps, tokens and epochs."
            errors.append(error_at(reason, name))
        if isinstance(self.micro_batch_size, int) and self.batch_size % self.micro_batch_size:
            reason = f"must divide batch_size {self.batch_size}, got {self.micro_batch_size}"
            errors.append(error_at(reason, "micro_batch_size", value=self.micro_batch_size))
        if self.clip_norm is not None and self.clip_norm < MIN_CLIP_NORM:
            reason = (
                f"trains nothing: gradients of norm {self.clip_norm:g} are lost beside the eps of the optimizer. "
                f"Use at least {MIN_CLIP_NORM:g}, or null for no clipping"
            )
            errors.append(error_at(reason, "clip_norm", value=self.clip_norm))
        if self.parallel.tensor > 1 and self.parallel.shard > 1:
            reason = "cannot be combined with shard yet. Set one of the two to 1."
            errors.append(error_at(reason, "parallel", "tensor", value=self.parallel.tensor))
        types = [tracker.type for tracker in self.trackers]
        for index, name in enumerate(types):
            if name in types[:index]:  # both would write to the same place in the run folder
                errors.append(error_at(f"{name!r} appears twice", "trackers", index, value=name))
        if self.model.parametrisation is not None and self.optimizer.component.width_rule is None:
            errors.append(error_at(f"{self.optimizer.type!r} {NO_WIDTH_RULE}", "optimizer"))
        errors += self._batching_problems()
        if errors:
            raise ValidationError.from_exception_data("RunSpec", errors)
        return self

    def _batching_problems(self) -> Iterator[InitErrorDetails]:
        """Check that the batching reads what the corpus provides, and provides what the architecture requires."""
        batching, architecture = self.batching, self.model.architecture
        needed, given = batching.component.reads, self.corpus.component.provides
        if needed != given:
            reason = f"{batching.type!r} reads {needed}, and corpus {self.corpus.type!r} provides {given}"
            yield error_at(f"{reason}. Use batching {self.corpus.component.default_batching!r}", "batching")
        provided = batching.component.enabled_inputs(batching)
        for name in sorted(provided - architecture.component.accepted_inputs):
            reason = f"{batching.type!r} provides {name}, which architecture {architecture.type!r} does not accept"
            yield error_at(reason, "batching")
        for name in sorted(architecture.component.required_inputs - provided):
            reason = f"{batching.type!r} does not provide {name}, which architecture {architecture.type!r} requires"
            yield error_at(reason, "batching")
        if "documents" not in provided:
            return
        attentions = self.model.per_layer("attention")
        for attention in sorted({a.type for a in attentions if "documents" not in a.component.supports}):
            reason = f"{batching.type!r} provides documents, which attention {attention!r} does not support"
            yield error_at(reason, "batching")
