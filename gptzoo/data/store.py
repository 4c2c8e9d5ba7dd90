"""Tokens on disk: a corpus is tokenized once, kept under a key of its content, and read by memory mapping."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import filelock
import numpy as np

from gptzoo.atomic import PREFIX, new_folder, write_json
from gptzoo.component import Config
from gptzoo.data.corpora import Corpus, Split
from gptzoo.data.text import utf8
from gptzoo.data.tokenizers import Tokenizer, load_tokenizer, save_tokenizer
from gptzoo.errors import DataError

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


def prepare(corpus: Corpus, tokenizer_config: Config) -> tuple[Tokenizer, TokenStore]:
    """The tokenizer, fitted on the training split if it learns, and the tokens of the corpus.

    What was made once is found again under $GPTZOO_CACHE (or ~/.cache/gptzoo); what was damaged since is made again.
    Raises DataError.
    """
    folder = cache_folder() / "tokens" / _key(corpus, tokenizer_config)
    store = _open(folder)
    if store is None:
        try:
            store = _make(folder, corpus, tokenizer_config)
        except OSError as error:
            raise DataError(
                f"{folder}: tokens cannot be kept there: {error.strerror}; set GPTZOO_CACHE to a folder with room"
            ) from None
    return load_tokenizer(folder / "tokenizer.json"), store


def cache_folder() -> Path:
    return Path(os.environ.get("GPTZOO_CACHE") or Path.home() / ".cache" / "gptzoo").expanduser()


def _key(corpus: Corpus, tokenizer_config: Config) -> str:
    parts = [_VERSION, corpus.fingerprint(), tokenizer_config.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _make(folder: Path, corpus: Corpus, tokenizer_config: Config) -> TokenStore:
    """Fill the folder, once: of processes that start together one works and the others wait for it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_name(f"{folder.name}.lock")):
        if (store := _open(folder)) is not None:
            return store
        for left in [folder, *folder.parent.glob(f"{PREFIX}{folder.name}-*")]:  # damaged, or of a process that died
            if left.exists():
                shutil.rmtree(left)
        tokenizer = tokenizer_config.build(tokenizer_config.component.fit(tokenizer_config, corpus.documents("train")))
        with new_folder(folder) as temporary:
            _write(temporary, corpus, tokenizer)
    if (store := _open(folder)) is None:
        raise DataError(f"{folder}: what was just written there reads back otherwise; set GPTZOO_CACHE to another disk")
    return store


def _write(folder: Path, corpus: Corpus, tokenizer: Tokenizer) -> None:
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
    n_tokens, n_bytes = {}, {}
    for split in _SPLITS:
        n_tokens[split], n_bytes[split] = _write_split(folder, corpus, split, tokenizer, dtype)
        if n_tokens[split] < 2:
            raise DataError(
                f"corpus {corpus.config.type!r}: the {split} split is only {n_tokens[split]} tokens; give more text"
                + (", or a val_path" if split == "val" else "")
            )
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    index = {
        "corpus": corpus.fingerprint(),
        "dtype": dtype.str,
        "vocab_size": tokenizer.vocab_size,
        "n_tokens": n_tokens,
        "n_bytes": n_bytes,
        "sha256": {name: _sha256(folder / name) for name in _FILES},
    }
    write_json(folder / "index.json", index)


def _write_split(folder: Path, corpus: Corpus, split: Any, tokenizer: Tokenizer, dtype: np.dtype) -> tuple[int, int]:
    """Tokenize document by document; returns the number of tokens and of the UTF-8 bytes that they stand for."""
    n_tokens, n_bytes = 0, 0
    with open(folder / f"{split}.bin", "wb") as out, open(folder / f"{split}.spans.bin", "wb") as spans:
        for number, document in enumerate(corpus.documents(split)):
            try:
                separator = np.asarray(tokenizer.separator() if number else [], dtype=np.int64)
                ids = np.asarray(tokenizer.encode(document), dtype=np.int64)
                n_bytes += len(utf8(document))
            except DataError as error:
                kind = corpus.config.type
                raise DataError(f"corpus {kind!r}, {split} split, document {number + 1}: {error}") from None
            if len(ids) and not 0 <= ids.min() <= ids.max() < tokenizer.vocab_size:
                raise DataError(
                    f"tokenizer {tokenizer.config.type!r} gave ids from {ids.min()} to {ids.max()}, "
                    f"outside of its vocabulary of {tokenizer.vocab_size}"
                )
            out.write(np.concatenate([separator, ids]).astype(dtype).tobytes())
            n_tokens += len(separator) + len(ids)
            n_bytes += len(tokenizer.decode_bytes(separator.tolist()))
            spans.write(np.array([n_tokens - len(ids), n_tokens], dtype="<i8").tobytes())
    return n_tokens, n_bytes


def _open(folder: Path) -> TokenStore | None:
    """The store in a folder, if all in it is as its index says, to the byte."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        # Hashing costs no more than the fingerprint of the corpus, and a flipped bit would otherwise train unseen.
        if any(index["sha256"][name] != _sha256(folder / name) for name in _FILES):
            return None
        dtype = np.dtype(index["dtype"])
        return TokenStore(
            train=_mapped(folder / "train.bin", dtype),
            val=_mapped(folder / "val.bin", dtype),
            spans={split: _mapped(folder / f"{split}.spans.bin", np.dtype("<i8")).reshape(-1, 2) for split in _SPLITS},
            n_bytes=index["n_bytes"],
            vocab_size=index["vocab_size"],
            fingerprint=hashlib.sha256(json.dumps(index["sha256"], sort_keys=True).encode()).hexdigest(),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mapped(file: Path, dtype: np.dtype) -> np.ndarray:
    return np.memmap(file, dtype, mode="r")


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
