"""The catalogue of all properties: their names, the functions that check them, and the kinds that promise them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gptzoo.testing.at_size.search import AtSize
from gptzoo.testing.component_under_test import MODEL_KINDS
from gptzoo.testing.properties.assembly.accounting import check_accounting
from gptzoo.testing.properties.assembly.building import (
    check_building,
    check_initial_values,
    check_scalars,
    check_state_dict,
)
from gptzoo.testing.properties.assembly.options import check_options
from gptzoo.testing.properties.assembly.pairings import check_all_pairings, check_common_pairings
from gptzoo.testing.properties.assembly.residual import check_residual
from gptzoo.testing.properties.assembly.serialization import check_serialization
from gptzoo.testing.properties.at_size import attention, decoding, execution, forward, precision
from gptzoo.testing.properties.decoding.cached_decoding import check_decoding
from gptzoo.testing.properties.decoding.ejecting import check_ejecting
from gptzoo.testing.properties.decoding.engine import check_engine
from gptzoo.testing.properties.decoding.exporting import check_exporting
from gptzoo.testing.properties.decoding.state import check_reorder, check_reset, check_rollback, check_state
from gptzoo.testing.properties.forward.batch_independence import check_padding, check_rows
from gptzoo.testing.properties.forward.captures import check_captures
from gptzoo.testing.properties.forward.causality import check_causality, check_noncausal
from gptzoo.testing.properties.forward.documents import check_documents
from gptzoo.testing.properties.forward.shapes import check_shapes
from gptzoo.testing.properties.forward.side_effects import (
    check_determinism,
    check_inputs_not_modified,
    check_training_matches_eval,
)
from gptzoo.testing.properties.kinds import (
    batchings,
    corpora,
    corpus_files,
    executors,
    optimizers,
    processors,
    schedules,
    strategies,
    tokenizers,
    trackers,
)
from gptzoo.testing.properties.training.compiling import check_compiling
from gptzoo.testing.properties.training.fused import check_fused_matrices
from gptzoo.testing.properties.training.gradients import check_gradients, check_gradients_numerically
from gptzoo.testing.properties.training.recompute import check_checkpointing
from gptzoo.testing.properties.training.sharding import check_sharding, check_tensor_parallel
from gptzoo.testing.properties.training.width import check_width_transfer

_KINDS_WITH_STATE = ("architecture", "attention", "ffn", "positional")  # they keep state, or affect what is kept
_KINDS_WITH_OPTIONS = (*MODEL_KINDS, "logits_processor", "optimizer", "schedule")
_KINDS_WITH_DRAWS = ("batching", "logits_processor", "optimizer", "schedule", "strategy", "tokenizer")
_ALL_KINDS = (
    *_KINDS_WITH_OPTIONS,
    *("batching", "corpus", "executor", "tokenizer", "tracker"),
)


@dataclass(frozen=True)
class Property:
    """A property that components of some kinds promise. `gptzoo check --only` takes its name."""

    name: str
    check: Callable[[Any], str | None]  # takes the component under test, returns a note; raises Failed or Skipped
    kinds: tuple[str, ...] = MODEL_KINDS
    slow: bool = False
    at_size: AtSize | None = None  # the part that is checked beyond toy sizes

    @property
    def is_sampled(self) -> bool:
        """True if a small effort tries fewer cases."""
        return self.at_size is not None or not set(self.kinds).isdisjoint(_KINDS_WITH_DRAWS)

    @property
    def promise(self) -> str:
        """The promise in one sentence, from the docstring of `check`: "Check that …"."""
        sentence = (inspect.getdoc(self.check) or "").partition("\n")[0].removeprefix("Check that ")
        return sentence[:1].upper() + sentence[1:]


PROPERTIES = (
    Property("building", check_building),
    Property("scalars", check_scalars),
    Property("initial_values", check_initial_values),
    Property("residual", check_residual, ("attention", "ffn")),
    Property("state_dict", check_state_dict),
    Property("shapes", check_shapes),
    Property("precision", precision.check_precision, at_size=precision.PRECISION),
    Property("causality", check_causality, at_size=forward.CAUSALITY),
    Property("noncausal", check_noncausal, ("attention",), at_size=attention.NONCAUSAL),
    Property("rows", check_rows, at_size=forward.ROWS),
    Property("padding", check_padding, at_size=forward.PADDING),
    Property("documents", check_documents, at_size=forward.DOCUMENTS),
    Property("decoding", check_decoding, at_size=decoding.DECODING),
    Property("state", check_state, _KINDS_WITH_STATE, at_size=decoding.STATE),
    Property("reorder", check_reorder, _KINDS_WITH_STATE, at_size=decoding.REORDER),
    Property("reset", check_reset, _KINDS_WITH_STATE, at_size=decoding.RESET),
    Property("rollback", check_rollback, _KINDS_WITH_STATE, at_size=decoding.ROLLBACK),
    Property("engine", check_engine, _KINDS_WITH_STATE, at_size=decoding.ENGINE),
    Property("gradients", check_gradients, at_size=execution.GRADIENTS),
    Property("gradcheck", check_gradients_numerically),
    Property("fused_matrices", check_fused_matrices),
    Property("options", check_options, _KINDS_WITH_OPTIONS),
    Property("serialization", check_serialization, _ALL_KINDS),
    Property("determinism", check_determinism, at_size=execution.DETERMINISM),
    Property("modes", check_training_matches_eval, at_size=execution.MODES),
    Property("inputs", check_inputs_not_modified, at_size=execution.INPUTS),
    Property("captures", check_captures, ("attention",), at_size=attention.CAPTURES),
    Property("checkpointing", check_checkpointing, at_size=execution.CHECKPOINTING),
    Property("accounting", check_accounting),
    Property("partners", check_common_pairings),
    Property("all_partners", check_all_pairings, slow=True),
    Property("compiling", check_compiling, slow=True),
    Property("width_transfer", check_width_transfer, slow=True),
    Property("exporting", check_exporting, slow=True),
    Property("eject", check_ejecting, slow=True),
    Property("sharding", check_sharding, slow=True),
    Property("tensor_parallel", check_tensor_parallel, slow=True),
    Property("round_trip", tokenizers.check_round_trip, ("tokenizer",)),
    Property("ids", tokenizers.check_ids, ("tokenizer",)),
    Property("decoding", tokenizers.check_decoding, ("tokenizer",)),
    Property("saving", tokenizers.check_saving, ("tokenizer",)),
    Property("export", tokenizers.check_export, ("tokenizer",)),
    Property("factors", schedules.check_factors, ("schedule",)),
    Property("determinism", schedules.check_determinism, ("schedule",)),
    Property("resuming", schedules.check_resuming, ("schedule",)),
    Property("warmup", schedules.check_warmup, ("schedule",)),
    Property("learning", optimizers.check_learning, ("optimizer",)),
    Property("learning_rate", optimizers.check_learning_rate, ("optimizer",)),
    Property("parameters", optimizers.check_parameters, ("optimizer",)),
    Property("missing_gradients", optimizers.check_missing_gradients, ("optimizer",)),
    Property("zero_gradients", optimizers.check_zero_gradients, ("optimizer",)),
    Property("bfloat16", optimizers.check_bfloat16, ("optimizer",)),
    Property("resuming", optimizers.check_resuming, ("optimizer",)),
    Property("evaluation_weights", optimizers.check_evaluation_weights, ("optimizer",)),
    Property("processing", processors.check_processing, ("logits_processor",)),
    Property("rows", processors.check_rows, ("logits_processor",)),
    Property("inputs", processors.check_inputs_not_modified, ("logits_processor",)),
    Property("determinism", processors.check_determinism, ("logits_processor",)),
    Property("samples", batchings.check_samples, ("batching",)),
    Property("targets", batchings.check_targets, ("batching",)),
    Property("epoch", batchings.check_epoch, ("batching",)),
    Property("validation", batchings.check_validation, ("batching",)),
    Property("inputs", batchings.check_inputs, ("batching",)),
    Property("documents", corpora.check_documents, ("corpus",)),
    Property("splits", corpora.check_splits, ("corpus",)),
    Property("form", corpora.check_form, ("corpus",)),
    Property("fingerprint", corpora.check_fingerprint, ("corpus",)),
    Property("files", corpus_files.check_files, ("corpus",)),
    Property("file_fingerprint", corpus_files.check_file_fingerprint, ("corpus",)),
    Property("samples", strategies.check_samples, ("strategy",)),
    Property("rows", strategies.check_rows, ("strategy",)),
    Property("determinism", strategies.check_determinism, ("strategy",)),
    Property("length", strategies.check_length, ("strategy",)),
    Property("stopping", strategies.check_stopping, ("strategy",)),
    Property("logging", trackers.check_logging, ("tracker",)),
    Property("resuming", trackers.check_resuming, ("tracker",)),
    Property("ending", trackers.check_ending, ("tracker",)),
    Property("inert", trackers.check_random_state, ("tracker",)),
    Property("running", executors.check_running, ("executor",)),
    Property("codes", executors.check_exit_codes, ("executor",)),
    Property("stopping", executors.check_stopping, ("executor",)),
    Property("leaving", executors.check_leaving, ("executor",)),
    Property("tables", executors.check_tables, ("executor",), slow=True),
)


def properties_of(kind: str) -> list[Property]:
    """Return the properties of a kind in the order in which they are checked. A kind may have none."""
    return [prop for prop in PROPERTIES if kind in prop.kinds]
