"""Tokens on disk: a corpus is tokenized once, kept under a key of its content, and read by memory mapping."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import filelock
import numpy as np

from gptzoo.component import Config
from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.data.shards import Counts, Report, at_work, cut, merge, sha256, token_type
from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer, save_tokenizer
from gptzoo.errors import DataError, GptzooError
from gptzoo.utils.atomic import PREFIX, new_folder, write_json
from gptzoo.utils.cache_folder import cache_folder

_VERSION = 2  # of what is in the folder; raise it when the same corpus would give other files
_SPLITS = get_args(Split)
_FILES = ("train.bin", "train.spans.bin", "val.bin", "val.spans.bin", "tokenizer.json")


@dataclass(frozen=True)
class TokenStore:
    """The token ids of both splits, memory-mapped; between two documents stands `Tokenizer.separator`."""

    train: np.ndarray  # uint16 or uint32
    val: np.ndarray
    spans: dict[str, np.ndarray]  # int64 (n, 2): where each document of a split begins and ends
    n_bytes: dict[str, int]  # of UTF-8 text that each split stands for
    vocab_size: int
    fingerprint: str  # of the ids and of the tokenizer
    folder: Path | None = None  # where it lies


def prepare(
    corpus: Corpus, tokenizer_config: Config, *, workers: int = 1, report: Report | None = None
) -> tuple[Tokenizer, TokenStore]:
    """The tokenizer, fitted on the training split if it learns, and the tokens of the corpus.

    What was made once is found again under $GPTZOO_CACHE (or ~/.cache/gptzoo); what was damaged since is made again.
    Killed, it goes on from the shards that are done. `workers` are processes; the result is the same for any number.
    Memory holds a few shards for each of them, and the longest document. Raises DataError.
    """
    fingerprint = corpus.fingerprint()
    folder = cache_folder() / "tokens" / _key(fingerprint, tokenizer_config)
    store = open_store(folder)
    if store is None:
        try:
            store = _make(folder, corpus, fingerprint, tokenizer_config, workers, report or _silent)
        except OSError as error:
            raise DataError(
                f"{folder}: tokens cannot be kept there: {error.strerror}; set GPTZOO_CACHE to a folder with room"
            ) from None
        except BrokenProcessPool:
            raise DataError(
                "a process that tokenized has died, perhaps for want of memory; what is done is kept, "
                "so start again, with fewer workers"
            ) from None
    shutil.rmtree(_unfinished(folder), ignore_errors=True)
    return load_tokenizer(folder / "tokenizer.json"), store


def _silent(stage: str, counts: Counts) -> None:
    pass


def _key(fingerprint: str, tokenizer_config: Config) -> str:
    parts = [_VERSION, fingerprint, tokenizer_config.component.identity(tokenizer_config)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _unfinished(folder: Path) -> Path:
    """Where the shards are until they are merged."""
    return cache_folder() / f"unfinished-{folder.name}"


def _make(
    folder: Path, corpus: Corpus, fingerprint: str, tokenizer_config: Config, workers: int, report: Report
) -> TokenStore:
    """Fill the folder, once: of processes that start together one works and the others wait for it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_name(f"{folder.name}.lock")):
        if (store := open_store(folder)) is not None:
            return store
        for left in [folder, *folder.parent.glob(f"{PREFIX}{folder.name}-*")]:  # damaged, or of a process that died
            if left.exists():
                shutil.rmtree(left)
        unfinished = _unfinished(folder)
        try:
            tokenizer_file = _fitted(unfinished, corpus, tokenizer_config, report)
            with new_folder(folder) as temporary:
                _write(temporary, unfinished, corpus, fingerprint, tokenizer_file, workers, report)
        except GptzooError:  # the input is wrong, and other input will have a folder of its own
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    if (store := open_store(folder)) is None:
        raise DataError(f"{folder}: what was just written there reads back otherwise; set GPTZOO_CACHE to another disk")
    return store


def _fitted(folder: Path, corpus: Corpus, tokenizer_config: Config, report: Report) -> Path:
    """The file of the tokenizer in the folder of shards. If there is none, the folder is begun anew."""
    file = folder / "tokenizer.json"
    try:
        load_tokenizer(file)
    except GptzooError:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        texts = _reported(corpus.documents("train"), report)
        tokenizer = tokenizer_config.build(tokenizer_config.component.fit(tokenizer_config, texts))
        temporary = folder / f"{PREFIX}{file.name}"
        save_tokenizer(tokenizer, temporary)
        os.replace(temporary, file)
    return file


def _reported(texts: Iterator[str], report: Report) -> Iterator[str]:
    for text in texts:
        yield text
        report("tokenizer", Counts(1, 0, len(text)))


def _write(
    folder: Path, unfinished: Path, corpus: Corpus, fingerprint: str, tokenizer_file: Path, workers: int, report: Report
) -> None:
    tokenizer = load_tokenizer(tokenizer_file)
    n_tokens, n_bytes = {}, {}
    with at_work(tokenizer_file, workers) as tokenize_all:
        for split in _SPLITS:
            done = []
            for counts in tokenize_all(unfinished, cut(corpus, split)):
                done.append(counts)
                report(split, counts)
            n_tokens[split] = sum(counts.tokens for counts in done)
            n_bytes[split] = sum(counts.n_bytes for counts in done)
            if n_tokens[split] < 2:
                raise DataError(
                    f"corpus {corpus.config.type!r}: the {split} split is only {n_tokens[split]} tokens; give more text"
                    + (", or a val_path" if split == "val" else "")
                )
            merge(unfinished, split, done, folder / f"{split}.bin", folder / f"{split}.spans.bin")
    shutil.copyfile(tokenizer_file, folder / "tokenizer.json")
    index = {
        "corpus": fingerprint,
        "dtype": token_type(tokenizer).str,
        "vocab_size": tokenizer.vocab_size,
        "n_tokens": n_tokens,
        "n_bytes": n_bytes,
        "sha256": {name: sha256(folder / name) for name in _FILES},
    }
    write_json(folder / "index.json", index)


def open_store(folder: Path) -> TokenStore | None:
    """The store in a folder that `prepare` has filled, if all in it is as its index says, to the byte; else None."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        # Hashing costs no more than the fingerprint of the corpus, and a flipped bit would otherwise train unseen.
        if any(index["sha256"][name] != sha256(folder / name) for name in _FILES):
            return None
        dtype = np.dtype(index["dtype"])
        return TokenStore(
            train=_mapped(folder / "train.bin", dtype),
            val=_mapped(folder / "val.bin", dtype),
            spans={split: _mapped(folder / f"{split}.spans.bin", np.dtype("<i8")).reshape(-1, 2) for split in _SPLITS},
            n_bytes=index["n_bytes"],
            vocab_size=index["vocab_size"],
            fingerprint=hashlib.sha256(json.dumps(index["sha256"], sort_keys=True).encode()).hexdigest(),
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mapped(file: Path, dtype: np.dtype) -> np.ndarray:
    return np.memmap(file, dtype, mode="r")
