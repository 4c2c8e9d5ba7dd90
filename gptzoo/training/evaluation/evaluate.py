"""What held-out text says of a saved model: the full pass of training, and nanoGPT's random batches for its figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from gptzoo.checkpoint.model_folder import LoadedModel, find_model_folder, load
from gptzoo.component import Config
from gptzoo.data.batching.batching import Batch
from gptzoo.data.batching.order import windows
from gptzoo.data.corpora.corpus import Split
from gptzoo.data.token_store import TokenStore, open_store, prepare
from gptzoo.data.tokenizers.saved import SavedTokenizer
from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer
from gptzoo.errors import DataError, FolderError, InputError
from gptzoo.spec.files import load_run_spec, parse_json
from gptzoo.spec.run import RunSpec
from gptzoo.training.evaluation.full_pass import EVALUATED_AT_ONCE, measure
from gptzoo.training.hardware.device import choose_device, choose_precision
from gptzoo.utils.likelihood import Likelihood
from gptzoo.utils.seeds import derive


@dataclass(frozen=True)
class RandomBatches:
    """nanoGPT's `estimate_loss`: the mean over batches of windows that start anywhere, some tokens twice, most not."""

    batches: int = 200
    batch_size: int = 12
    seed: int = 1

    name = "random-batches"


@dataclass(frozen=True)
class FullPass:
    """Each token of the split once, as the run's batching has it; nothing is drawn, and no batch size matters."""

    name = "full"


Protocol = FullPass | RandomBatches


@dataclass(frozen=True)
class Evaluation:
    """A measure, and all that decides it."""

    folder: Path  # of the model or the checkpoint
    data: str  # fingerprint of the tokens
    split: Split
    protocol: str
    batching: str
    precision: str
    device: str
    measured: Likelihood

    def as_dict(self) -> dict[str, Any]:
        """As JSON, with loss (nats per token), perplexity and bits per byte in place of the sum."""
        named = {name: str(value) for name, value in vars(self).items() if name != "measured"}
        found = self.measured
        numbers = {"loss": found.loss, "perplexity": found.perplexity, "bits_per_byte": found.bits_per_byte}
        return {**named, **numbers, "n_tokens": found.n_tokens, "n_bytes": found.n_bytes}


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
    device: str = "auto",
) -> Evaluation:
    """Measure the model in a run, a checkpoint or a model folder on one split of a corpus, with its own tokenizer.

    data: a corpus, or a folder of tokens that `prepare` made; left out, what the run was trained on.
    best, step: of a run, another checkpoint than the newest. averaged: the moving average of the weights.
    batching, precision: left out, those of the run, or else windows and auto.
    Raises FolderError for what is missing or damaged, DataError for tokens of another tokenizer, SpecError for a
    batching that does not suit the model, and InputError where there is nothing to measure on.
    """
    if split not in get_args(Split):
        raise InputError(f"split {split!r}: there are {' and '.join(get_args(Split))}")
    folder = find_model_folder(Path(path), best=best, step=step)
    where = choose_device(device)
    loaded = load(folder, device=where, averaged=averaged)
    if loaded.tokenizer is None:
        raise InputError(f"{folder}: has no tokenizer.json, so what its tokens stand for is not known")
    run = _run_of(folder)
    spec = _spec(loaded, run, data, batching)
    tokenizer, store = _tokens(loaded, loaded.tokenizer, run, spec, data)
    if split == "train":
        store = _exchanged(store)
    arithmetic = choose_precision(precision or spec.precision, where)
    cut = spec.batching.build(store, tokenizer, loaded.spec.context_length, spec.seed)
    if isinstance(protocol, RandomBatches):
        batches, n_bytes = _drawn(protocol, loaded, store, tokenizer)
    else:
        batches, n_bytes = cut.val(EVALUATED_AT_ONCE), cut.val_bytes
    measured = measure(loaded.model, batches, n_bytes=n_bytes, precision=arithmetic)
    return Evaluation(
        folder, store.fingerprint, split, protocol.name, spec.batching.type, arithmetic, str(where), measured
    )


def _run_of(folder: Path) -> Path | None:
    """The run that a checkpoint belongs to."""
    run = folder.absolute().parent.parent
    return run if folder.absolute().parent.name == "checkpoints" and (run / "run.json").is_file() else None


def _spec(loaded: LoadedModel, run: Path | None, data: Config | Path | None, batching: Config | None) -> RunSpec:
    """The run that would read this text in this way: what does not fit together is told as it would be in training."""
    if run is not None:
        found: dict[str, Any] = load_run_spec(run / "run.json").resolved()
    elif data is None:
        raise InputError(f"{loaded.folder}: is no checkpoint of a run; say on what text it is to be measured: --data")
    else:
        found = {"steps": 1}
    found["model"] = loaded.spec.model_dump(mode="json")
    if isinstance(data, Config):
        found["corpus"] = data.model_dump(mode="json")
    if batching is not None:
        found["batching"] = batching.model_dump(mode="json")
    return load_run_spec(found)


def _tokens(
    loaded: LoadedModel, own: Tokenizer, run: Path | None, spec: RunSpec, data: Config | Path | None
) -> tuple[Tokenizer, TokenStore]:
    if isinstance(data, Path):
        return own, _prepared(data, own)
    if data is not None:
        return prepare(spec.corpus.build(), SavedTokenizer.Config(type="saved", path=str(loaded.folder)))
    assert run is not None  # or there would be data
    tokenizer, store = prepare(spec.corpus.build(), spec.tokenizer)
    environment = run / "environment.json"
    if not environment.is_file():
        raise FolderError(
            f"{environment}: is missing, so what data the run had is not known; give what to measure: --data"
        )
    if store.fingerprint != parse_json(environment.read_text(encoding="utf-8"), environment.name).get("data"):
        raise FolderError(f"{run}: the data is not that which the run was trained on; give what to measure on: --data")
    return tokenizer, store


def _prepared(folder: Path, own: Tokenizer) -> TokenStore:
    store = open_store(folder)
    if store is None:
        raise FolderError(f"{folder}: holds no tokens that `gptzoo prepare` made, or damaged ones; prepare them again")
    theirs = load_tokenizer(folder / "tokenizer.json")
    if theirs.fingerprint() != own.fingerprint():
        raise DataError(
            f"{folder}: its tokens are those of another tokenizer ({theirs.config.type!r}) than the model's "
            f"({own.config.type!r}), whose ids mean something else; give the corpus itself as --data"
        )
    return store


def _exchanged(store: TokenStore) -> TokenStore:
    """The store with its splits exchanged: what is held out of it is what was trained on."""
    other = {"train": "val", "val": "train"}
    return replace(
        store,
        train=store.val,
        val=store.train,
        spans={split: store.spans[other[split]] for split in other},
        n_bytes={split: store.n_bytes[other[split]] for split in other},
    )


def _drawn(
    protocol: RandomBatches, loaded: LoadedModel, store: TokenStore, tokenizer: Tokenizer
) -> tuple[Iterator[Batch], int]:
    """The batches, and the bytes that their targets stand for."""
    if loaded.model.required_inputs:
        raise InputError(
            f"random-batches draws windows of plain text, and architecture {loaded.spec.architecture.type!r} requires "
            f"{', '.join(sorted(loaded.model.required_inputs))}; measure it by the full pass"
        )
    text, length = store.val, loaded.spec.context_length
    if len(text) <= length:
        raise DataError(f"the split has {len(text)} tokens, too few for a window of {length}; measure the full pass")
    rng = np.random.default_rng(derive(protocol.seed, protocol.name))
    starts = rng.integers(0, len(text) - length, (protocol.batches, protocol.batch_size))
    n_bytes = sum(len(tokenizer.decode_bytes(text[s + 1 : s + 1 + length].tolist())) for s in starts.flatten().tolist())

    def batches() -> Iterator[Batch]:
        for row in starts:
            tokens, targets = windows(text, row, length)
            yield {"tokens": tokens, "targets": targets}

    return batches(), n_bytes
