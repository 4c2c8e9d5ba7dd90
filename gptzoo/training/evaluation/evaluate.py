"""Evaluation of a saved model on held-out text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch

from gptzoo.checkpoint.model_folder import LoadedModel, find_model_folder, load
from gptzoo.component import Config
from gptzoo.data.batching.batching import Batching
from gptzoo.data.corpora.corpus import Split
from gptzoo.data.evaluation_sets import check_length, evaluation_sets
from gptzoo.data.token_store import TokenStore
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.spec.run import RunSpec
from gptzoo.training.evaluation.evaluation_data import (
    evaluation_spec,
    load_tokens,
    run_of_checkpoint,
    swap_splits,
    text_digest,
)
from gptzoo.training.evaluation.full_pass import MAX_TOKENS_PER_BATCH, Measurement, measure
from gptzoo.training.evaluation.protocols import (
    FullPass,
    Protocol,
    RandomBatches,
    random_batches,
    resolve_windows,
    sliding_batches,
)
from gptzoo.training.hardware.device import choose_device, choose_precision
from gptzoo.utils.likelihood import Likelihood
from gptzoo.utils.notebook.view import NotebookView
from gptzoo.utils.proportion import Proportion

_FULL_PASS = FullPass()


@dataclass(frozen=True)
class Evaluation(NotebookView):
    """The result of an evaluation, with everything that determines it."""

    folder: Path  # the model folder or checkpoint
    data: str  # fingerprint of the tokens
    split: Split
    protocol: str
    batching: str
    precision: str
    device: str
    likelihood: Likelihood
    window: int  # tokens that the model reads at a time
    stride: int  # tokens from the start of one window to the next
    text: str | None  # digest of the documents, independent of the tokenizer; None if unknown
    first_token_bytes: int  # bytes of the first token if it is never predicted, else 0
    metrics: Mapping[str, Proportion] = field(default_factory=dict)  # that the batching declares
    chance: Mapping[str, float] = field(default_factory=dict)  # metrics of the best predictor without context
    sets: Mapping[str, Measurement] = field(default_factory=dict)  # of the evaluation sets of the corpus

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and numbers as JSON: loss in nats per token, perplexity, bits per byte and counts.

        Metrics have exact binomial confidence intervals of 95%, `low` to `high`.
        """
        settings = {**vars(self), "folder": str(self.folder)}
        likelihood, metrics, sets = (settings.pop(name) for name in ("likelihood", "metrics", "sets"))
        return {
            **settings,
            **_numbers(likelihood),
            "metrics": {name: _proportion(proportion) for name, proportion in metrics.items()},
            "sets": {
                name: {
                    **_numbers(measurement.likelihood),
                    "metrics": {key: _proportion(proportion) for key, proportion in measurement.metrics.items()},
                }
                for name, measurement in sets.items()
            },
        }


def _numbers(likelihood: Likelihood) -> dict[str, Any]:
    return {
        "loss": likelihood.loss,
        "perplexity": likelihood.perplexity,
        "bits_per_byte": likelihood.bits_per_byte,
        "n_tokens": likelihood.n_tokens,
        "n_bytes": likelihood.n_bytes,
    }


def _proportion(proportion: Proportion) -> dict[str, Any]:
    low, high = proportion.interval()
    return {"value": proportion.value, "hits": proportion.hits, "n": proportion.n, "low": low, "high": high}


def evaluate(
    path: str | Path,
    data: Config | Path | None = None,
    *,
    split: Split = "val",
    best: bool = False,
    step: int | None = None,
    averaged: bool = False,
    protocol: Protocol = _FULL_PASS,
    batching: Config | None = None,
    precision: str | None = None,
    device: torch.device | str = "auto",
) -> Evaluation:
    """Evaluate the model of a run, a checkpoint or a model folder, with its own tokenizer.

    data: a corpus, or a folder that `gptzoo prepare` has written. Default: the data that the run was trained on.
    split: `val` or `train`.
    best, step: the checkpoint of a run to evaluate. Default: the newest.
    averaged: evaluate the exponential moving average of the weights.
    protocol: a full pass over the split (the default), sliding windows, or random batches.
    batching, precision: Default: those of the run; without a run, windows and auto.

    Raises FolderError if a folder is missing or damaged, DataError for tokens of another tokenizer, SpecError for a
    batching that the model does not support, and InputError if there is no data to evaluate on.
    """
    if split not in get_args(Split):
        raise InputError(f"split: expected {' or '.join(get_args(Split))}, got {split!r}")
    folder = find_model_folder(Path(path), best=best, step=step)
    chosen_device = choose_device(str(device))
    loaded = load(folder, device=chosen_device, averaged=averaged)
    if loaded.tokenizer is None:
        raise InputError(f"{folder}: has no tokenizer.json, so text cannot be turned into its tokens")
    run = run_of_checkpoint(folder)
    spec = evaluation_spec(loaded, run, data, batching)
    tokenizer, store = load_tokens(loaded, loaded.tokenizer, run, spec, data)
    if store.samples is not None:
        check_length(store.samples.corpus, loaded.model.max_length, f"corpus {spec.corpus.type!r}")
    if split == "train":
        store = swap_splits(store)
    chosen_precision = choose_precision(precision or spec.precision, chosen_device)
    enabled_inputs = spec.batching.component.enabled_inputs(spec.batching)
    window, stride = resolve_windows(protocol, loaded, store, enabled_inputs)
    measurement, chance = _measure(protocol, loaded, spec, tokenizer, store, (window, stride), chosen_precision)
    sets: Mapping[str, Measurement] = {}
    # Prepared tokens are of another corpus than the run's, and have no evaluation sets.
    if isinstance(protocol, FullPass) and split == "val" and not isinstance(data, Path):
        sets = _measure_sets(loaded, spec, tokenizer, store, chosen_precision)
    return Evaluation(
        folder=folder,
        data=store.fingerprint,
        split=split,
        protocol=protocol.name,
        batching=spec.batching.type,
        precision=chosen_precision,
        device=str(chosen_device),
        likelihood=measurement.likelihood,
        window=window,
        stride=stride,
        text=text_digest(store, tokenizer, "val"),
        first_token_bytes=len(tokenizer.decode_bytes([int(store.val[0])])) if store.samples is None else 0,
        metrics=measurement.metrics,
        chance=chance,
        sets=sets,
    )


def _measure(
    protocol: Protocol,
    loaded: LoadedModel,
    spec: RunSpec,
    tokenizer: Tokenizer,
    store: TokenStore,
    windows: tuple[int, int],
    precision: str,
) -> tuple[Measurement, Mapping[str, float]]:
    """Return the measurement of a protocol, with windows of a length and a stride, and chance for its metrics."""
    if isinstance(protocol, FullPass):
        batching = spec.batching.build(store, tokenizer, loaded.spec.context_length, spec.seed)
        return _full_pass(loaded, batching, precision), batching.chance
    if isinstance(protocol, RandomBatches):
        batches, n_bytes = random_batches(protocol, loaded, store, tokenizer)
    else:
        batches, n_bytes = sliding_batches(store.val, *windows, MAX_TOKENS_PER_BATCH), store.n_bytes["val"]
    return measure(loaded.model, batches, n_bytes=n_bytes, precision=precision), {}


def _measure_sets(
    loaded: LoadedModel, spec: RunSpec, tokenizer: Tokenizer, store: TokenStore, precision: str
) -> Mapping[str, Measurement]:
    """Return the measurement of a full pass over each evaluation set of the corpus."""
    batchings = evaluation_sets(
        spec.corpus.build(),
        tokenizer,
        store,
        spec.batching,
        length=loaded.spec.context_length,
        max_length=loaded.model.max_length,
        seed=spec.seed,
    )
    return {name: _full_pass(loaded, batching, precision) for name, batching in batchings.items()}


def _full_pass(loaded: LoadedModel, batching: Batching, precision: str) -> Measurement:
    batches = batching.validation_batches(MAX_TOKENS_PER_BATCH)
    return measure(loaded.model, batches, n_bytes=batching.val_bytes, scorer=batching, precision=precision)
