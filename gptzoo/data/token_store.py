"""Tokens on disk. A corpus is tokenized once, cached under a key of its content, and read by memory mapping."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import filelock
import numpy as np

from gptzoo.component import Config
from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.data.shard_workers import shard_workers
from gptzoo.data.shards import Counts, merge_shards, sha256_of, split_into_shards, token_dtype
from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer, save_tokenizer
from gptzoo.errors import DataError, GptzooError
from gptzoo.utils.atomic import INCOMPLETE_PREFIX, new_folder, write_json
from gptzoo.utils.cache_folder import cache_folder

_VERSION = 2  # of the folder's content; raise it when the same corpus gives different files
_SPLITS = get_args(Split)
_FILES = ("train.bin", "train.spans.bin", "val.bin", "val.spans.bin", "tokenizer.json")

ProgressCallback = Callable[[str, Counts], None]
"""Called with the stage ("tokenizer", "train" or "val") and the work done since the last call."""


@dataclass(frozen=True)
class TokenStore:
    """The memory-mapped token ids of both splits, with `Tokenizer.separator` between documents."""

    train: np.ndarray  # uint16 or uint32
    val: np.ndarray
    spans: dict[str, np.ndarray]  # split -> int64 (n, 2): begin and end of each document
    n_bytes: dict[str, int]  # split -> UTF-8 bytes of its text
    vocab_size: int
    fingerprint: str  # digest of the ids and the tokenizer
    folder: Path | None = None


def prepare(
    corpus: Corpus, tokenizer_config: Config, *, workers: int = 1, progress: ProgressCallback | None = None
) -> tuple[Tokenizer, TokenStore]:
    """Return the tokenizer, fitted on the training split, and the tokens of the corpus.

    Results are cached in $GPTZOO_CACHE (default: ~/.cache/gptzoo). A damaged cache entry is rebuilt, and an interrupted
    call continues from the finished shards. The result is the same for any number of `workers`, which are processes.
    Memory holds a few shards per worker and the longest document. Raises DataError.
    """
    fingerprint = corpus.fingerprint()
    folder = cache_folder() / "tokens" / _cache_key(fingerprint, tokenizer_config)
    prepared = _load(folder)
    if prepared is None:
        try:
            prepared = _build(folder, corpus, fingerprint, tokenizer_config, workers, progress or _ignore_progress)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot write tokens: {error.strerror}; set GPTZOO_CACHE to a folder with enough space"
            ) from None
        except BrokenProcessPool:
            raise DataError(
                "a tokenizing process died, perhaps out of memory. Start again with fewer workers; "
                "finished shards are kept."
            ) from None
    shutil.rmtree(_unfinished(folder), ignore_errors=True)
    return prepared


def _ignore_progress(stage: str, counts: Counts) -> None:
    pass


def _cache_key(fingerprint: str, tokenizer_config: Config) -> str:
    parts = [_VERSION, fingerprint, _tokenizer_class(tokenizer_config).identity(tokenizer_config)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _tokenizer_class(config: Config) -> type[Tokenizer]:
    return cast("type[Tokenizer]", config.component)


def _unfinished(folder: Path) -> Path:
    """Return the folder that holds the shards until they are merged."""
    return cache_folder() / f"unfinished-{folder.name}"


def _load(folder: Path) -> tuple[Tokenizer, TokenStore] | None:
    store = open_store(folder)
    return None if store is None else (load_tokenizer(folder / "tokenizer.json"), store)


def _build(
    folder: Path,
    corpus: Corpus,
    fingerprint: str,
    tokenizer_config: Config,
    workers: int,
    progress: ProgressCallback,
) -> tuple[Tokenizer, TokenStore]:
    """Fill the folder once: of several processes, one builds it while the others wait for the lock."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_name(f"{folder.name}.lock")):
        if (prepared := _load(folder)) is not None:
            return prepared
        _remove_leftovers(folder)
        unfinished = _unfinished(folder)
        try:
            tokenizer = _fit_or_load_tokenizer(unfinished, corpus, tokenizer_config, progress)
            with new_folder(folder) as temporary:
                _write_store(temporary, unfinished, corpus, fingerprint, tokenizer, workers, progress)
        except GptzooError:  # the input is wrong; a corrected input has a different key, so these shards are useless
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    if (store := open_store(folder)) is None:
        raise DataError(f"{folder}: the files read back differ from those written; set GPTZOO_CACHE to another disk")
    return tokenizer, store


def _remove_leftovers(folder: Path) -> None:
    """Remove a damaged folder and the temporary folders of processes that were killed."""
    for leftover in [folder, *folder.parent.glob(f"{INCOMPLETE_PREFIX}{folder.name}-*")]:
        if leftover.exists():
            shutil.rmtree(leftover)


def _fit_or_load_tokenizer(
    folder: Path, corpus: Corpus, tokenizer_config: Config, progress: ProgressCallback
) -> Tokenizer:
    """Load the tokenizer in the folder of unfinished shards, or empty the folder and fit a new one."""
    file = folder / "tokenizer.json"
    try:
        return load_tokenizer(file)
    except GptzooError:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        texts = _report_texts(corpus.documents("train"), progress)
        tokenizer = tokenizer_config.build(_tokenizer_class(tokenizer_config).fit(tokenizer_config, texts))
        temporary = folder / f"{INCOMPLETE_PREFIX}{file.name}"
        save_tokenizer(tokenizer, temporary)
        os.replace(temporary, file)
        return load_tokenizer(file)


def _report_texts(texts: Iterator[str], progress: ProgressCallback) -> Iterator[str]:
    for text in texts:
        yield text
        progress("tokenizer", Counts(1, 0, len(text)))


def _write_store(
    folder: Path,
    unfinished: Path,
    corpus: Corpus,
    fingerprint: str,
    tokenizer: Tokenizer,
    workers: int,
    progress: ProgressCallback,
) -> None:
    tokenizer_file = unfinished / "tokenizer.json"
    n_tokens, n_bytes = {}, {}
    with shard_workers(tokenizer, tokenizer_file, workers) as tokenize_shards:
        for split in _SPLITS:
            all_counts = []
            for counts in tokenize_shards(unfinished, split_into_shards(corpus, split)):
                all_counts.append(counts)
                progress(split, counts)
            n_tokens[split] = sum(counts.tokens for counts in all_counts)
            n_bytes[split] = sum(counts.n_bytes for counts in all_counts)
            if n_tokens[split] < 2:
                raise DataError(
                    f"corpus {corpus.config.type!r}: the {split} split has {n_tokens[split]} tokens, but needs 2; "
                    "give more text" + (", or a val_path" if split == "val" else "")
                )
            merge_shards(unfinished, split, all_counts, folder / f"{split}.bin", folder / f"{split}.spans.bin")
    shutil.copyfile(tokenizer_file, folder / "tokenizer.json")
    index = {
        "corpus": fingerprint,
        "dtype": token_dtype(tokenizer).str,
        "vocab_size": tokenizer.vocab_size,
        "n_tokens": n_tokens,
        "n_bytes": n_bytes,
        "sha256": {name: sha256_of(folder / name) for name in _FILES},
    }
    write_json(folder / "index.json", {**index, "checksum": index_checksum(index)})


def open_store(folder: Path) -> TokenStore | None:
    """Open the store in a folder that `prepare` filled, or return None if a file is missing or its checksum differs."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        contents = {key: value for key, value in index.items() if key != "checksum"}
        if "checksum" in index and index["checksum"] != index_checksum(contents):  # older versions wrote none
            return None
        # Hashing costs no more than the fingerprint of the corpus, and detects corrupted tokens before training.
        if any(index["sha256"][name] != sha256_of(folder / name) for name in _FILES):
            return None
        dtype = np.dtype(index["dtype"])
        return TokenStore(
            train=_map_file(folder / "train.bin", dtype),
            val=_map_file(folder / "val.bin", dtype),
            spans={
                split: _map_file(folder / f"{split}.spans.bin", np.dtype("<i8")).reshape(-1, 2) for split in _SPLITS
            },
            n_bytes=index["n_bytes"],
            vocab_size=index["vocab_size"],
            fingerprint=hashlib.sha256(json.dumps(index["sha256"], sort_keys=True).encode()).hexdigest(),
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def index_checksum(index: Mapping[str, object]) -> str:
    """Return the checksum of the index of a store, which has the sizes and checksums of its files."""
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def _map_file(file: Path, dtype: np.dtype) -> np.ndarray:
    return np.memmap(file, dtype, mode="r")
