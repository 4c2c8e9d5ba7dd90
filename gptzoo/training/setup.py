"""The setup of a run: its data, model, optimizer and trackers, built from the spec."""

from __future__ import annotations

from dataclasses import asdict

from gptzoo.data.evaluation_sets import evaluation_sets
from gptzoo.data.prepare import prepare
from gptzoo.errors import DataError, InputError
from gptzoo.model.architecture import Architecture
from gptzoo.model.build import build
from gptzoo.model.fused_blocks import fused_blocks
from gptzoo.model.head import Head
from gptzoo.spec.files import check_reads_back
from gptzoo.spec.run import RunSpec
from gptzoo.terminal.activity import activity
from gptzoo.training.distributed.optimizer_check import check_optimizer_on_shards
from gptzoo.training.distributed.parallelize import parallelize
from gptzoo.training.distributed.process_group import rank_device
from gptzoo.training.distributed.ranks import SINGLE_RANK, Ranks
from gptzoo.training.hardware.device import choose_precision, describe_device
from gptzoo.training.initial_weights import InitialTensors, read_initial_weights
from gptzoo.training.memory_need import check_run_fits
from gptzoo.training.named_parameters import NamedParameters
from gptzoo.training.optim.check_optimizer_state import check_optimizer_state
from gptzoo.training.optim.optimizers import describe_optimizer
from gptzoo.training.run.run_folder import DataRecord, RunFolder
from gptzoo.training.step.block_options import prepare_blocks
from gptzoo.training.step.train_step import TrainStep
from gptzoo.training.tracking.monitor import Monitor
from gptzoo.training.trained_parameters import describe_trained, freeze_parameters


class Setup:
    """The parts of a run on this rank. All of them follow from the spec; nothing is written or resumed yet."""

    def __init__(self, spec: RunSpec, folder: RunFolder, ranks: Ranks = SINGLE_RANK, *, allow_oversize: bool = False):
        check_reads_back(spec)
        self.folder = folder
        self.ranks = ranks
        self.trackers = [tracker.build() for tracker in spec.trackers]  # first, to report a missing library at once
        self.device = rank_device(spec.device)
        self.precision = choose_precision(spec.precision, self.device)
        if not allow_oversize:
            check_run_fits(spec, self.device)
        corpus = spec.corpus.build()
        with activity(f"preparing the text of corpus {spec.corpus.type!r}"):
            self.tokenizer, self.store = prepare(corpus, spec.tokenizer, keep_duplicates=folder.keeps_duplicates)
        self.spec = spec = with_vocabulary(spec, self.store.vocab_size)
        self.tokenizer.encode(spec.sample.prompt or "")  # reports a prompt that cannot be encoded before training
        self.batching = spec.batching.build(self.store, self.tokenizer, spec.model.context_length, spec.seed)
        self.n_samples = self.batching.n_samples  # raises DataError for too little text before anything is written
        splits_weights = spec.parallel.shard > 1 or spec.parallel.tensor > 1
        place = "cpu" if splits_weights else self.device
        self.model = build(spec.model, device=place, seed=spec.seed, allow_oversize=allow_oversize).train()
        self.evaluation_sets = evaluation_sets(
            corpus,
            self.tokenizer,
            self.store,
            spec.batching,
            length=spec.model.context_length,
            max_length=self.model.max_length,
            seed=spec.seed,
        )
        set_objective(self.model, spec)
        trained = freeze_parameters(self.model, spec.freeze, spec.train_only)
        self.trained_notes = describe_trained(self.model)  # before shards take the place of parameters
        blocks = fused_blocks(self.model)  # before parts become shards
        prepare_blocks(self.model, compile=spec.compile, recompute=spec.activation_checkpointing)
        self.parallelized = parallelize(self.model, spec.parallel, ranks, self.device)
        parameters = self.parallelized.parameters()  # parallelize may have replaced them
        self.parameters = NamedParameters(
            {name: parameters[name] for name in trained},
            blocks,
            self.parallelized.row_orders,
            self.model.width_scalings,
        )
        if splits_weights:
            check_optimizer_on_shards(spec, next(iter(self.parameters.values())))
        self.group_entries = check_optimizer_state(spec, self.parameters)  # that the optimizer changes
        self.train_step = TrainStep(
            spec, self.parallelized, self.parameters, device=self.device, precision=self.precision
        )
        self.monitor = Monitor(
            spec, self.model, self.parameters, device=self.device, precision=self.precision, ranks=ranks
        )

    def describe(self) -> str:
        """Return device, precision, compilation and optimizer for the first line of a run."""
        blocks = "compiled blocks" if self.spec.compile else "eager"
        optimizer = describe_optimizer(self.train_step.optimizer)
        return f"{describe_device(self.device)}, {self.precision}, {blocks}, {optimizer}"

    def notes(self) -> list[str]:
        """Return notes on the setup that a user may not expect."""
        vocab_size, n_ids = self.spec.model.vocab_size or 0, self.store.vocab_size
        if vocab_size == n_ids:
            return self.trained_notes
        return [
            *self.trained_notes,
            f"note: the model has {vocab_size} token ids and the tokenizer {n_ids}. The {vocab_size - n_ids} spare ids "
            "do not occur in the text, and are never generated",
        ]

    def read_initial_weights(self) -> InitialTensors | None:
        """Read the weights of `init_from`, or return None if the spec has none. All ranks must call it."""
        if self.spec.init_from is None:
            return None
        tensors = self.parallelized.state_dict()
        return read_initial_weights(self.spec.init_from, self.model, tensors, self.spec.model, self.tokenizer)

    def data_record(self) -> DataRecord:
        """Return the record of the text for the run folder, by which losses of different runs can be compared."""
        store = self.store
        held_out = {
            "text": None if store.texts is None else store.texts["val"],
            "ids": None if store.ids is None else store.ids["val"],
            "documents": len(store.spans["val"]) if store.samples is None else store.samples.n_held_out,
            "bytes": self.batching.val_bytes,
        }
        overlap = None if store.overlap is None else asdict(store.overlap)
        record = {"data": store.fingerprint, "held_out": held_out, "overlap": overlap}
        return {**record, "chance": dict(self.batching.chance)} if self.batching.chance else record


def with_vocabulary(spec: RunSpec, vocab_size: int) -> RunSpec:
    """Return the spec with the tokenizer's vocabulary size in the model, if the spec leaves it out.

    Raises DataError if the spec's vocabulary is too small for the tokenizer.
    """
    model_vocab_size = spec.model.vocab_size
    if model_vocab_size is None:
        return spec.model_copy(update={"model": spec.model.model_copy(update={"vocab_size": vocab_size})})
    if model_vocab_size < vocab_size:
        raise DataError(
            f"{spec.name}: $.model.vocab_size: {model_vocab_size} is too small for tokenizer {spec.tokenizer.type!r}, "
            f"which has {vocab_size} ids. Leave vocab_size out to use the tokenizer's"
        )
    return spec


def set_objective(model: Architecture, spec: RunSpec) -> None:
    """Set label smoothing and z-loss of the output head. Raises InputError for an architecture with another head."""
    options = {"label_smoothing": spec.label_smoothing, "z_loss": spec.z_loss}
    heads = [module for module in model.modules() if isinstance(module, Head)]
    for name, value in options.items():
        if value and not heads:
            raise InputError(
                f"{spec.name}: $.{name}: gptzoo's output head computes it, and architecture "
                f"{spec.model.architecture.type!r} has another head. Remove {name}"
            )
        for head in heads:
            setattr(head, name, value)
