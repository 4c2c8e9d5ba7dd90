"""The text of an evaluation: the data of the run, another corpus, or prepared tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.checkpoint.records import read_record
from gptzoo.component import Config
from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.data.held_out import TextDigest
from gptzoo.data.prepare import prepare
from gptzoo.data.token_store import TokenStore, open_store
from gptzoo.data.tokenizers.saved import SavedTokenizer
from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer
from gptzoo.errors import DataError, FolderError, InputError
from gptzoo.spec.files import load_run_spec
from gptzoo.spec.run import RunSpec
from gptzoo.training.run.run_folder import RunFolder


def run_of_checkpoint(folder: Path) -> Path | None:
    """Return the run folder of a checkpoint, or None for a model folder."""
    run = folder.absolute().parent.parent
    return run if folder.absolute().parent.name == "checkpoints" and (run / "run.json").is_file() else None


def evaluation_spec(
    loaded: LoadedModel, run: Path | None, data: Config | Path | None, batching: Config | None
) -> RunSpec:
    """Return a run spec with this model and text. It is validated like the spec of a training run."""
    run_spec = None if run is None else load_run_spec(run / "run.json")
    spec: dict[str, Any]
    if run_spec is not None:
        spec = run_spec.resolved()
    elif data is None:
        raise InputError(f"{loaded.folder}: is not a checkpoint of a run, so it has no data. Give some with --data")
    else:
        spec = {"steps": 1}
    spec["model"] = loaded.spec.model_dump(mode="json")
    if isinstance(data, Config):
        spec["corpus"] = data.model_dump(mode="json")
    elif data is not None:
        spec.pop("corpus", None)  # prepared tokens take the place of a corpus
    provides = cast("type[Corpus]", data.component).provides if isinstance(data, Config) else "documents"
    if run_spec is not None and data is not None and run_spec.batching.component.reads != provides:
        del spec["batching"]  # The run's batching cannot read this text, so the corpus's own replaces it.
    if batching is not None:
        spec["batching"] = batching.model_dump(mode="json")
    return load_run_spec(spec)


def load_tokens(
    loaded: LoadedModel, tokenizer: Tokenizer, run: Path | None, spec: RunSpec, data: Config | Path | None
) -> tuple[Tokenizer, TokenStore]:
    """Return the tokenizer and the tokens of the text to evaluate on.

    Raises FolderError if the run's data has changed since training.
    """
    if isinstance(data, Path):
        return tokenizer, _open_prepared(data, tokenizer)
    if data is not None:
        saved = SavedTokenizer.Config(type="saved", path=str(loaded.folder))
        # Nothing is trained on this text, so its training split may repeat its held-out split.
        return prepare(spec.corpus.build(), saved, keep_duplicates=True)
    assert run is not None  # evaluation_spec requires a run or data
    run_tokenizer, store = prepare(spec.corpus.build(), spec.tokenizer, keep_duplicates=RunFolder(run).keeps_duplicates)
    environment = run / "environment.json"
    if not environment.is_file():
        raise FolderError(f"{environment}: is missing, so the run's data is unknown. Give the data with --data")
    if store.fingerprint != read_record(environment).get("data"):
        raise FolderError(f"{run}: the data has changed since the run was trained. Give the data with --data")
    return run_tokenizer, store


def swap_splits(store: TokenStore) -> TokenStore:
    """Return the store with its splits swapped, so that a validation pass runs over the training text."""
    opposite: dict[Split, Split] = {"train": "val", "val": "train"}
    samples = store.samples
    return replace(
        store,
        samples=None if samples is None else replace(samples, held_out=opposite[samples.held_out]),
        train=store.val,
        val=store.train,
        spans={split: store.spans[opposite[split]] for split in opposite},
        n_bytes={split: store.n_bytes[opposite[split]] for split in opposite},
        texts=None if store.texts is None else {split: store.texts[opposite[split]] for split in opposite},
        ids=None if store.ids is None else {split: store.ids[opposite[split]] for split in opposite},
    )


def text_digest(store: TokenStore, tokenizer: Tokenizer, split: Split) -> str | None:
    """Return the digest of the documents of a split, or None if the tokens of an old store do not give them back."""
    if store.texts is not None:
        return store.texts[split]
    digest, n_bytes = TextDigest(), 0
    for begin, end in store.spans[split].tolist():
        document = tokenizer.decode_bytes(getattr(store, split)[begin:end].tolist())
        digest.add(document)
        n_bytes += len(document)
    return digest.hexdigest() if n_bytes == store.n_bytes[split] else None


def _open_prepared(folder: Path, tokenizer: Tokenizer) -> TokenStore:
    store = open_store(folder)
    if store is None:
        raise FolderError(f"{folder}: has no tokens from `gptzoo prepare`, or damaged ones. Prepare them again")
    stored_tokenizer = load_tokenizer(folder / "tokenizer.json")
    if stored_tokenizer.fingerprint() != tokenizer.fingerprint():
        raise DataError(
            f"{folder}: its tokens are from another tokenizer ({stored_tokenizer.config.type!r}) than the model's "
            f"({tokenizer.config.type!r}). Give the corpus itself with --data"
        )
    return store
