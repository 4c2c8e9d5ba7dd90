"""Evaluation of a saved model on held-out text: by a full pass, or by nanoGPT's random batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from gptzoo.checkpoint.model_folder import LoadedModel, find_model_folder, load
from gptzoo.component import Config
from gptzoo.data.batching.batching import Batch
from gptzoo.data.batching.windows import slice_windows
from gptzoo.data.corpora.corpus import Split
from gptzoo.data.token_store import TokenStore
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError, InputError
from gptzoo.training.evaluation.evaluation_data import evaluation_spec, load_tokens, run_of_checkpoint, swap_splits
from gptzoo.training.evaluation.full_pass import MAX_TOKENS_PER_BATCH, compute_likelihood
from gptzoo.training.hardware.device import choose_device, choose_precision
from gptzoo.utils.likelihood import Likelihood
from gptzoo.utils.seeds import derive_seed


@dataclass(frozen=True)
class RandomBatches:
    """nanoGPT's `estimate_loss`: the mean over random windows. Some tokens are predicted twice, most of them never."""

    batches: int = 200
    batch_size: int = 12
    seed: int = 1

    name = "random-batches"


@dataclass(frozen=True)
class FullPass:
    """One prediction of every token of the split but the first. It depends on no batch size and no seed."""

    name = "full"


Protocol = FullPass | RandomBatches


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation, with everything that determines it."""

    folder: Path  # the model folder or checkpoint
    data: str  # fingerprint of the tokens
    split: Split
    protocol: str
    batching: str
    precision: str
    device: str
    likelihood: Likelihood

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and numbers as JSON: loss in nats per token, perplexity, bits per byte and counts."""
        settings = {name: str(value) for name, value in vars(self).items() if name != "likelihood"}
        likelihood = self.likelihood
        return {
            **settings,
            "loss": likelihood.loss,
            "perplexity": likelihood.perplexity,
            "bits_per_byte": likelihood.bits_per_byte,
            "n_tokens": likelihood.n_tokens,
            "n_bytes": likelihood.n_bytes,
        }


def evaluate(
    path: str | Path,
    data: Config | Path | None = None,
    *,
    split: Split = "val",
    best: bool = False,
    step: int | None = None,
    averaged: bool = False,
    protocol: Protocol = FullPass(),
    batching: Config | None = None,
    precision: str | None = None,
    device: torch.device | str = "auto",
) -> Evaluation:
    """Evaluate the model of a run, a checkpoint or a model folder, with its own tokenizer.

    data: a corpus, or a folder that `gptzoo prepare` has written. Default: the data that the run was trained on.
    split: `val` or `train`.
    best, step: the checkpoint of a run to evaluate. Default: the newest.
    averaged: evaluate the exponential moving average of the weights.
    protocol: a full pass over the split, or random batches.
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
    if split == "train":
        store = swap_splits(store)
    chosen_precision = choose_precision(precision or spec.precision, chosen_device)
    spec_batching = spec.batching.build(store, tokenizer, loaded.spec.context_length, spec.seed)
    if isinstance(protocol, RandomBatches):
        batches, n_bytes = _random_batches(protocol, loaded, store, tokenizer)
    else:
        batches, n_bytes = spec_batching.validation_batches(MAX_TOKENS_PER_BATCH), spec_batching.val_bytes
    likelihood = compute_likelihood(loaded.model, batches, n_bytes=n_bytes, precision=chosen_precision)
    return Evaluation(
        folder=folder,
        data=store.fingerprint,
        split=split,
        protocol=protocol.name,
        batching=spec.batching.type,
        precision=chosen_precision,
        device=str(chosen_device),
        likelihood=likelihood,
    )


def _random_batches(
    protocol: RandomBatches, loaded: LoadedModel, store: TokenStore, tokenizer: Tokenizer
) -> tuple[Iterator[Batch], int]:
    """Return the batches, and the bytes of text that their targets encode."""
    if loaded.model.required_inputs:
        raise InputError(
            f"random-batches: supports plain text only, and architecture {loaded.spec.architecture.type!r} requires "
            f"{', '.join(sorted(loaded.model.required_inputs))}. Use the full pass"
        )
    text, length = store.val, loaded.spec.context_length
    if len(text) <= length:
        raise DataError(
            f"random-batches: the split has {len(text)} tokens, too few for a window of {length}. Use the full pass"
        )
    rng = np.random.default_rng(derive_seed(protocol.seed, protocol.name))
    starts = rng.integers(0, len(text) - length, (protocol.batches, protocol.batch_size))
    n_bytes = sum(len(tokenizer.decode_bytes(text[s + 1 : s + 1 + length].tolist())) for s in starts.flatten().tolist())

    def batches() -> Iterator[Batch]:
        for batch_starts in starts:
            tokens, targets = slice_windows(text, batch_starts, length)
            yield {"tokens": tokens, "targets": targets}

    return batches(), n_bytes
