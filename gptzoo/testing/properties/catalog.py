"""Every property of the kit: its name, the function that checks it, and the kinds that it is for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gptzoo.testing.properties.assembly.accounting import accounting
from gptzoo.testing.properties.assembly.building import building, initial_values, scalars, state_dict
from gptzoo.testing.properties.assembly.options import options
from gptzoo.testing.properties.assembly.pairings import all_partners, partners
from gptzoo.testing.properties.decoding.cached_decoding import decoding
from gptzoo.testing.properties.decoding.engine import engine
from gptzoo.testing.properties.decoding.exporting import exporting
from gptzoo.testing.properties.decoding.state import reorder, reset, rollback, state
from gptzoo.testing.properties.forward.batch_independence import padding, rows
from gptzoo.testing.properties.forward.captures import captures
from gptzoo.testing.properties.forward.causality import causality, noncausal
from gptzoo.testing.properties.forward.documents import documents
from gptzoo.testing.properties.forward.modes import determinism, inputs, modes
from gptzoo.testing.properties.forward.shapes import shapes
from gptzoo.testing.properties.kinds import (
    corpora,
    executors,
    optimizers,
    processors,
    schedules,
    tokenizers,
    trackers,
)
from gptzoo.testing.properties.training.checkpointing import checkpointing
from gptzoo.testing.properties.training.compiling import compiling
from gptzoo.testing.properties.training.gradients import gradcheck, gradients
from gptzoo.testing.properties.training.sharding import sharding, tensor_parallel
from gptzoo.testing.subject import MODEL_KINDS

ATTENTIVE = ("architecture", "attention", "ffn", "positional")  # what keeps state, or is part of what is kept


@dataclass(frozen=True)
class Property:
    """`check(subject)` returns None or a note; it raises `Failed` or `Skipped`. Its docstring says what is promised."""

    check: Callable[[Any], str | None]
    kinds: tuple[str, ...] = MODEL_KINDS
    slow: bool = False

    @property
    def name(self) -> str:
        return self.check.__name__

    @property
    def promise(self) -> str:
        return (inspect.getdoc(self.check) or "").partition("\n")[0]


PROPERTIES = (
    Property(building),
    Property(scalars),
    Property(initial_values),
    Property(state_dict),
    Property(shapes),
    Property(causality),
    Property(noncausal, ("attention",)),
    Property(rows),
    Property(padding),
    Property(documents),
    Property(decoding),
    Property(state, ATTENTIVE),
    Property(reorder, ATTENTIVE),
    Property(reset, ATTENTIVE),
    Property(rollback, ATTENTIVE),
    Property(engine, ATTENTIVE),
    Property(gradients),
    Property(gradcheck),
    Property(options, (*MODEL_KINDS, "logits_processor", "optimizer", "schedule")),
    Property(determinism),
    Property(modes),
    Property(inputs),
    Property(captures, ("attention",)),
    Property(checkpointing),
    Property(accounting),
    Property(partners),
    Property(all_partners, slow=True),
    Property(compiling, slow=True),
    Property(exporting, slow=True),
    Property(sharding, slow=True),
    Property(tensor_parallel, slow=True),
    Property(tokenizers.round_trip, ("tokenizer",)),
    Property(tokenizers.ids, ("tokenizer",)),
    Property(tokenizers.saving, ("tokenizer",)),
    Property(schedules.factors, ("schedule",)),
    Property(schedules.determinism, ("schedule",)),
    Property(schedules.warmup, ("schedule",)),
    Property(optimizers.learning, ("optimizer",)),
    Property(optimizers.learning_rate, ("optimizer",)),
    Property(optimizers.resuming, ("optimizer",)),
    Property(processors.processing, ("logits_processor",)),
    Property(processors.rows, ("logits_processor",)),
    Property(processors.inputs, ("logits_processor",)),
    Property(processors.determinism, ("logits_processor",)),
    Property(corpora.documents, ("corpus",)),
    Property(corpora.fingerprint, ("corpus",)),
    Property(trackers.logging, ("tracker",)),
    Property(trackers.resuming, ("tracker",)),
    Property(trackers.ending, ("tracker",)),
    Property(trackers.inert, ("tracker",)),
    Property(executors.running, ("executor",)),
    Property(executors.codes, ("executor",)),
    Property(executors.stopping, ("executor",)),
    Property(executors.leaving, ("executor",)),
    Property(executors.tables, ("executor",), slow=True),
)


def properties_of(kind: str) -> list[Property]:
    """The properties of a kind, in the order in which they are checked; none for a kind that the kit does not know."""
    return [one for one in PROPERTIES if kind in one.kinds]
