"""The costs of runs, computed from their specs: parameters, FLOPs, memory, steps and tokens."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from gptzoo.ablation.design.isolated_call import call_isolated
from gptzoo.component import Config
from gptzoo.data.batching.batching import Batching
from gptzoo.data.corpora.samples import SampleCorpus
from gptzoo.data.prepare import prepare
from gptzoo.data.token_store import TokenStore
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.model.accounting import model_costs, state_bytes
from gptzoo.model.dry_run import Precision
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec
from gptzoo.terminal.activity import activity


@dataclass(frozen=True)
class Costs:
    """The costs of a model in training. FLOPs and memory are None if they cannot be computed; `unknown` says why."""

    n_parameters: int
    flops_per_token: float | None  # forward and backward, in a training sample
    cache_bytes: int  # KV cache of one sequence of full context length
    memory_bytes: int | None  # of a training step
    unknown: str | None = None
    state_bytes: Mapping[int, int] = field(default_factory=dict)  # cache or state of one sequence, by its length


class CostCache:
    """A cache of model costs and prepared data, which are computed only once."""

    def __init__(self) -> None:
        self._costs: dict[str, Costs] = {}
        self._data: dict[str, tuple[Tokenizer, TokenStore]] = {}

    def with_vocabulary(self, spec: RunSpec) -> ModelSpec:
        """Return the model of a run. If it has no vocabulary size, set that of the run's tokenizer."""
        if spec.model.vocab_size is not None:
            return spec.model
        return spec.model.model_copy(update={"vocab_size": self.data(spec)[1].vocab_size})

    def data(self, spec: RunSpec) -> tuple[Tokenizer, TokenStore]:
        """Return the tokenizer and the token store of a run. Tokenize the corpus if that was not done yet."""
        key = json.dumps([spec.corpus.model_dump(mode="json"), spec.tokenizer.model_dump(mode="json")])
        if key not in self._data:
            self._data[key] = prepare(spec.corpus.build(), spec.tokenizer)
        return self._data[key]

    def compute_isolated(self, runs: Mapping[str, RunSpec]) -> None:
        """Compute the costs of runs, by variant, in another process: a component may crash it.

        Raises InputError with the name of the variant that does.
        """
        to_compute: dict[str, tuple[str, Callable[[], Costs]]] = {}
        for name, run in runs.items():
            key, compute = self._key_and_function(run)
            if key not in self._costs:
                to_compute.setdefault(key, (name, compute))
        with activity("computing parameters, FLOPs and memory of variants", len(to_compute)) as progress:
            costs = call_isolated(dict(to_compute.values()), on_progress=partial(setattr, progress, "done"))
        self._costs |= {key: costs[name] for key, (name, _) in to_compute.items()}

    def costs(self, spec: RunSpec) -> Costs:
        """Return the costs of the run's model. Memory is that of one micro-batch."""
        key, compute = self._key_and_function(spec)
        if key not in self._costs:
            self._costs[key] = compute()
        return self._costs[key]

    def n_steps(self, spec: RunSpec) -> int:
        """Return the number of optimizer steps of a run."""
        if spec.steps is not None:
            return spec.steps
        if spec.tokens is not None:
            return math.ceil(spec.tokens / tokens_per_step(spec))
        assert spec.epochs is not None  # RunSpec has exactly one of the three
        tokenizer, store = self.data(spec)
        batching: Batching = spec.batching.build(store, tokenizer, spec.model.context_length, spec.seed)
        return math.ceil(math.ceil(spec.epochs * batching.n_samples) / spec.batch_size)

    def _key_and_function(self, spec: RunSpec) -> tuple[str, Callable[[], Costs]]:
        """Return a key of everything that the costs of a run depend on, and the function that computes them."""
        model = self.with_vocabulary(spec)
        size = spec.micro_batch_size
        batch_size = size if isinstance(size, int) else spec.batch_size
        precision: Precision = "bf16" if spec.precision in ("bf16", "fp16") else "fp32"
        without_name = {**model.resolved(), "name": ""}
        length = spec.tokens_per_sample
        lengths = sorted({corpus.sample_length for corpus in sample_sets(spec.corpus).values()})
        key = json.dumps([without_name, batch_size, precision, length, lengths], sort_keys=True)
        return key, partial(_compute_costs, model, length, batch_size, precision, lengths)


def tokens_per_step(spec: RunSpec) -> int:
    """Return the number of tokens in one optimizer step."""
    return spec.batch_size * spec.tokens_per_sample


def sample_sets(config: Config) -> dict[str, SampleCorpus]:
    """Return the held-out samples of a corpus by the prefix of their metrics: "" and, for a level, its name and "/".

    A corpus of documents has none.
    """
    corpus = config.build()
    if not isinstance(corpus, SampleCorpus):
        return {}
    levels = {f"{name}/": level for name, level in corpus.evaluation_sets().items() if isinstance(level, SampleCorpus)}
    return {"": corpus, **levels}


def _compute_costs(
    model: ModelSpec, length: int, batch_size: int, precision: Precision, lengths: Sequence[int]
) -> Costs:
    accounts = model_costs(model, sequence_length=length, batch_size=batch_size, precision=precision)
    flops, memory = accounts.flops_per_token, accounts.training_memory
    return Costs(
        n_parameters=accounts.parameters.total,
        flops_per_token=None if flops is None else float(flops.training),
        cache_bytes=accounts.state_bytes,
        memory_bytes=None if memory is None else memory.total_bytes,
        unknown=accounts.not_counted,
        state_bytes=state_bytes(model, lengths, precision),
    )
