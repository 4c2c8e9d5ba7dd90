"""What the runs of an ablation cost by their specs alone: parameters, FLOPs, memory, steps and tokens."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from gptzoo.ablation.design.isolated_call import in_a_child
from gptzoo.data.batching.batching import Batching
from gptzoo.data.token_store import TokenStore, prepare
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.model.accounting import account
from gptzoo.model.dry_run import Precision
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec


@dataclass(frozen=True)
class Costs:
    """Of a model in training; None where it cannot be told from the spec, and `unknown` says why."""

    n_parameters: int
    flops_per_token: float | None  # forward and backward
    cache_bytes: int  # of a full context of one row
    memory_bytes: int | None  # of a training step
    unknown: str | None = None


class Ledger:
    """Looks costs and data up, each once."""

    def __init__(self) -> None:
        self._costs: dict[str, Costs] = {}
        self._data: dict[str, tuple[Tokenizer, TokenStore]] = {}

    def with_vocabulary(self, spec: RunSpec) -> ModelSpec:
        """The model of a run, with the vocabulary of its tokenizer where it leaves its own out."""
        if spec.model.vocab_size is not None:
            return spec.model
        return spec.model.model_copy(update={"vocab_size": self.data(spec)[1].vocab_size})

    def data(self, spec: RunSpec) -> tuple[Tokenizer, TokenStore]:
        """The tokenizer and the tokens of a run, which are made for it if need be."""
        key = json.dumps([spec.corpus.model_dump(mode="json"), spec.tokenizer.model_dump(mode="json")])
        if key not in self._data:
            self._data[key] = prepare(spec.corpus.build(), spec.tokenizer)
        return self._data[key]

    def learn(self, runs: Mapping[str, RunSpec]) -> None:
        """Count the costs of runs, by the names of their variants, in another process, which a component may crash.

        Raises InputError that names the variant if one does.
        """
        asked: dict[str, tuple[str, Callable[[], Costs]]] = {}
        for name, run in runs.items():
            key, count = self._counting(run)
            if key not in self._costs:
                asked.setdefault(key, (name, count))
        found = in_a_child(dict(asked.values()))
        self._costs |= {key: found[name] for key, (name, _) in asked.items()}

    def costs(self, spec: RunSpec) -> Costs:
        """Of the run's model in a micro-batch of its training."""
        key, count = self._counting(spec)
        if key not in self._costs:
            self._costs[key] = count()
        return self._costs[key]

    def _counting(self, spec: RunSpec) -> tuple[str, Callable[[], Costs]]:
        """What the costs of a run depend on, and what counts them."""
        model = self.with_vocabulary(spec)
        size = spec.micro_batch_size
        batch_size = size if isinstance(size, int) else spec.batch_size
        precision: Precision = "bf16" if spec.precision in ("bf16", "fp16") else "fp32"
        described = {**model.resolved(), "name": ""}
        key = json.dumps([described, batch_size, precision], sort_keys=True)
        return key, partial(_counted, model, batch_size, precision)

    def n_steps(self, spec: RunSpec) -> int:
        """Optimizer steps of a run."""
        if spec.steps is not None:
            return spec.steps
        if spec.tokens is not None:
            return math.ceil(spec.tokens / tokens_per_step(spec))
        assert spec.epochs is not None  # the spec says one of the three
        tokenizer, store = self.data(spec)
        batching: Batching = spec.batching.build(store, tokenizer, spec.model.context_length, spec.seed)
        return math.ceil(math.ceil(spec.epochs * batching.n_samples) / spec.batch_size)


def tokens_per_step(spec: RunSpec) -> int:
    return spec.batch_size * spec.model.context_length


def _counted(model: ModelSpec, batch_size: int, precision: Precision) -> Costs:
    found = account(model, batch_size=batch_size, precision=precision)
    flops, memory = found.flops_per_token, found.training_memory
    return Costs(
        n_parameters=found.parameters.total,
        flops_per_token=None if flops is None else float(flops.training),
        cache_bytes=found.state_bytes,
        memory_bytes=None if memory is None else memory.total_bytes,
        unknown=found.not_rehearsed,
    )
