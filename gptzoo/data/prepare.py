"""Tokenization of a corpus: `prepare` does it once, and caches the tokens under a key of the corpus' content."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import cast

import filelock

from gptzoo.component import Config
from gptzoo.data.clean_corpus import CleanCorpus
from gptzoo.data.corpora.corpus import Corpus
from gptzoo.data.corpora.file_text import pieces_of
from gptzoo.data.corpora.samples import SampleCorpus
from gptzoo.data.document_parts import parts_of
from gptzoo.data.file_checksums import read_sha256
from gptzoo.data.held_out import TextDigest
from gptzoo.data.sample_store import open_samples
from gptzoo.data.shard_workers import shard_workers
from gptzoo.data.shards import Counts, merge_shards, split_into_shards, token_dtype
from gptzoo.data.token_store import FILES, SPLITS, TokenStore, index_checksum, open_store, text_record
from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer, save_tokenizer
from gptzoo.data.utf8 import encode_utf8
from gptzoo.errors import DataError, GptzooError
from gptzoo.utils.atomic import INCOMPLETE_PREFIX, new_folder, write_json
from gptzoo.utils.cache_folder import cache_folder

_VERSION = 2  # of the folder's content; raise it when the same corpus gives different files
_SHARD_VERSION = 2  # of unfinished shards

ProgressCallback = Callable[[str, Counts], None]
"""Called with the stage ("tokenizer", "train" or "val") and the work done since the last call."""


def prepare(
    corpus: Corpus,
    tokenizer_config: Config,
    *,
    workers: int = 1,
    progress: ProgressCallback | None = None,
    keep_duplicates: bool = False,
) -> tuple[Tokenizer, TokenStore]:
    """Return the tokenizer, fitted on the training split, and the tokens of the corpus.

    Training documents that equal a held-out document except for whitespace are removed, unless `keep_duplicates`, which
    is for runs that an older version started and for text that is not trained on.

    Results are cached in $GPTZOO_CACHE (default: ~/.cache/gptzoo). A damaged cache entry is rebuilt, and an interrupted
    call continues from the finished shards. The result is the same for any number of `workers`, which are processes.
    Memory holds a few shards per worker, and the longest document unless the tokenizer reads it in parts. Raises
    DataError.

    A corpus of samples is not tokenized, and its store refers to the corpus.
    """
    if isinstance(corpus, SampleCorpus):
        return open_samples(corpus, tokenizer_config)
    fingerprint = corpus.fingerprint()
    tokens = cache_folder() / "tokens"
    whole = tokens / _cache_key(fingerprint, tokenizer_config)
    clean = tokens / _cache_key(fingerprint, tokenizer_config, "clean")
    report = progress or _ignore_progress
    try:
        prepared = _load_either(whole, clean, corpus, keep_duplicates)
        if prepared is None:
            prepared = _build(
                whole, clean, corpus, fingerprint, tokenizer_config, workers, report, keep_duplicates=keep_duplicates
            )
    except OSError as error:
        raise DataError(
            f"{tokens}: cannot write tokens: {error.strerror}; set GPTZOO_CACHE to a folder with enough space"
        ) from None
    except BrokenProcessPool:
        raise DataError(
            "a tokenizing process died, perhaps out of memory. Start again with fewer workers; "
            "finished shards are kept."
        ) from None
    shutil.rmtree(_unfinished(whole if keep_duplicates else clean), ignore_errors=True)
    return prepared


def _ignore_progress(stage: str, counts: Counts) -> None:
    pass


def _cache_key(fingerprint: str, tokenizer_config: Config, *variant: str) -> str:
    parts = [_VERSION, fingerprint, _tokenizer_class(tokenizer_config).identity(tokenizer_config), *variant]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _tokenizer_class(config: Config) -> type[Tokenizer]:
    return cast("type[Tokenizer]", config.component)


def _unfinished(folder: Path) -> Path:
    """Return the folder that holds the shards until they are merged."""
    return cache_folder() / f"unfinished-{_SHARD_VERSION}-{folder.name}"


def _load(folder: Path) -> tuple[Tokenizer, TokenStore] | None:
    store = open_store(folder)
    return None if store is None else (load_tokenizer(folder / "tokenizer.json"), store)


def _load_either(
    whole: Path, clean: Path, corpus: Corpus, keep_duplicates: bool
) -> tuple[Tokenizer, TokenStore] | None:
    """Load the store without duplicates, or the store of all documents if there are none or they are to be kept.

    A store of an older version is measured first, once.
    """
    if not keep_duplicates and (prepared := _load(clean)) is not None:
        return prepared
    prepared = _load(whole)
    if prepared is None:
        return None
    tokenizer, store = prepared
    if store.overlap is None:
        store = _add_text_record(whole, store, corpus)
    assert store.overlap is not None
    return (tokenizer, store) if keep_duplicates or not store.overlap.duplicates else None


def _add_text_record(folder: Path, store: TokenStore, corpus: Corpus) -> TokenStore:
    """Measure the text of a store that an older version wrote, and add the result to its index."""
    documents = CleanCorpus(corpus, keep_duplicates=True)
    digests = {split: TextDigest() for split in SPLITS}
    for split, digest in digests.items():
        for document in documents.documents(split):
            for piece in pieces_of(document):
                digest.add_piece(encode_utf8(piece))
            digest.end_document()
    overlap = documents.meter.result()
    texts = {split: digest.hexdigest() for split, digest in digests.items()}
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    index |= {"n_bytes": store.n_bytes, "text": text_record(texts, overlap)}
    index.pop("checksum", None)
    with contextlib.suppress(OSError):  # a cache that cannot be written is measured again
        write_json(folder / "index.json", {**index, "checksum": index_checksum(index)})
    return replace(store, texts=texts, overlap=overlap)


def _build(
    whole: Path,
    clean: Path,
    corpus: Corpus,
    fingerprint: str,
    tokenizer_config: Config,
    workers: int,
    progress: ProgressCallback,
    *,
    keep_duplicates: bool,
) -> tuple[Tokenizer, TokenStore]:
    """Fill a folder once: of several processes, one builds it while the others wait for the lock."""
    whole.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(whole.with_name(f"{whole.name}.lock")):
        if (prepared := _load_either(whole, clean, corpus, keep_duplicates)) is not None:
            return prepared
        folder = whole if keep_duplicates else clean
        _remove_leftovers(folder)
        unfinished = _unfinished(folder)
        try:
            documents = CleanCorpus(corpus, keep_duplicates=keep_duplicates)
            tokenizer = _fit_or_load_tokenizer(unfinished, documents, tokenizer_config, progress)
            with new_folder(folder) as temporary:
                _write_store(temporary, unfinished, documents, fingerprint, tokenizer, workers, progress)
        except GptzooError:  # the input is wrong; a corrected input has a different key, so these shards are useless
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        if folder == clean and not documents.meter.duplicates:
            _remove_leftovers(whole)
            os.replace(clean, whole)
            folder = whole
    if (store := open_store(folder)) is None:
        raise DataError(f"{folder}: the files read back differ from those written; set GPTZOO_CACHE to another disk")
    return tokenizer, store


def _remove_leftovers(folder: Path) -> None:
    """Remove a damaged folder and the temporary folders of processes that were killed."""
    for leftover in [folder, *folder.parent.glob(f"{INCOMPLETE_PREFIX}{folder.name}-*")]:
        if leftover.exists():
            shutil.rmtree(leftover)


def _fit_or_load_tokenizer(
    folder: Path, corpus: CleanCorpus, tokenizer_config: Config, progress: ProgressCallback
) -> Tokenizer:
    """Load the tokenizer in the folder of unfinished shards, or empty the folder and fit a new one."""
    file = folder / "tokenizer.json"
    try:
        return load_tokenizer(file)
    except GptzooError:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tokenizer_class = _tokenizer_class(tokenizer_config)
        texts = _report_texts(_fitting_texts(corpus, tokenizer_class), progress)
        tokenizer = tokenizer_config.build(tokenizer_class.fit(tokenizer_config, texts))
        temporary = folder / f"{INCOMPLETE_PREFIX}{file.name}"
        save_tokenizer(tokenizer, temporary)
        os.replace(temporary, file)
        return load_tokenizer(file)


def _fitting_texts(corpus: CleanCorpus, tokenizer: type[Tokenizer]) -> Iterator[tuple[str, bool]]:
    """Yield the texts to fit a tokenizer on, each with True if it ends a document."""
    for index, document in enumerate(corpus.fitting_documents()):
        if index and tokenizer.fit_separator:
            yield tokenizer.fit_separator, False
        location = f"corpus {corpus.config.type!r}, train split, document {index + 1}"
        parts = parts_of(document, tokenizer.fit_border, location, tokenizer.name)
        last = next(parts, "")
        for part in parts:
            yield last, False
            last = part
        yield last, True


def _report_texts(texts: Iterator[tuple[str, bool]], progress: ProgressCallback) -> Iterator[str]:
    for text, ends_document in texts:
        yield text
        progress("tokenizer", Counts(int(ends_document), 0, len(text)))


def _write_store(
    folder: Path,
    unfinished: Path,
    corpus: CleanCorpus,
    fingerprint: str,
    tokenizer: Tokenizer,
    workers: int,
    progress: ProgressCallback,
) -> None:
    tokenizer_file = unfinished / "tokenizer.json"
    n_tokens, n_bytes, texts = {}, {}, {}
    with shard_workers(tokenizer, tokenizer_file, workers) as tokenize_shards:
        for split in SPLITS:
            all_counts, text = [], TextDigest()
            n_removed = corpus.n_removed if split == "train" else None
            shards = split_into_shards(corpus, split, text, n_removed, tokenizer)
            for counts in tokenize_shards(unfinished, shards):
                all_counts.append(counts)
                progress(split, counts)
            n_tokens[split] = sum(counts.tokens for counts in all_counts)
            n_bytes[split] = sum(counts.n_bytes for counts in all_counts)
            texts[split] = text.hexdigest()
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
        "sha256": {name: read_sha256(folder / name) for name in FILES},
        "text": text_record(texts, corpus.meter.result()),
    }
    write_json(folder / "index.json", {**index, "checksum": index_checksum(index)})
