"""Tokenizing in shards, by one process or several: each shard is there whole or not at all, and is made only once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer
from gptzoo.data.utf8 import utf8
from gptzoo.errors import DataError
from gptzoo.utils.atomic import new_folder, write_json

SHARD_BYTES = 4 * 2**20  # of text; the last document of a shard may reach beyond
_AHEAD = 2  # shards that wait for each worker; bounds memory


class Counts(NamedTuple):
    """How much has been done: documents, tokens, and UTF-8 bytes that they stand for."""

    documents: int
    tokens: int
    n_bytes: int


Report = Callable[[str, Counts], None]  # the stage ("tokenizer", "train", "val") and what was done since the last time


@dataclass(frozen=True)
class Shard:
    """Documents of a split that follow each other: its `number`th shard, which begins with document `first`."""

    corpus: str  # its type, for errors
    split: Split
    number: int
    first: int
    documents: list[str]
    digest: str  # of the documents

    @property
    def name(self) -> str:
        return shard_name(self.split, self.number)


def shard_name(split: Split, number: int) -> str:
    return f"{split}-{number:08d}"


def cut(corpus: Corpus, split: Split) -> Iterator[Shard]:
    """The documents of a split in shards, the same each time. Raises DataError."""
    documents: list[str] = []
    number, first, size, digest = 0, 0, 0, hashlib.sha256()
    for index, document in enumerate(corpus.documents(split)):
        with _located(corpus.config.type, split, index):
            data = utf8(document)
        digest.update(len(data).to_bytes(8, "little") + data)
        documents.append(document)
        size += len(data)
        if size >= SHARD_BYTES:
            yield Shard(corpus.config.type, split, number, first, documents, digest.hexdigest())
            number, first, size, documents, digest = number + 1, index + 1, 0, [], hashlib.sha256()
    if documents:
        yield Shard(corpus.config.type, split, number, first, documents, digest.hexdigest())


def tokenize(folder: Path, shard: Shard, tokenizer: Tokenizer) -> Counts:
    """Make the folder of a shard in `folder`, unless it is there and whole. Raises DataError."""
    place = folder / shard.name
    if (counts := _done(place, shard.digest)) is not None:
        return counts
    shutil.rmtree(place, ignore_errors=True)
    with new_folder(place) as temporary:
        counts = _write(temporary, shard, tokenizer)
        sums = {name: sha256(temporary / name) for name in ("tokens.bin", "spans.bin")}
        write_json(temporary / "shard.json", {"digest": shard.digest, "counts": counts, "sha256": sums})
    return counts


def merge(folder: Path, split: Split, all_counts: list[Counts], tokens: Path, spans: Path) -> None:
    """Write the shards of a split into two files, one after the other."""
    n_tokens = 0
    with open(tokens, "wb") as all_tokens, open(spans, "wb") as all_spans:
        for number, counts in enumerate(all_counts):
            place = folder / shard_name(split, number)
            with open(place / "tokens.bin", "rb") as part:
                shutil.copyfileobj(part, all_tokens, 2**20)
            all_spans.write((np.fromfile(place / "spans.bin", dtype="<i8") + n_tokens).astype("<i8").tobytes())
            n_tokens += counts.tokens


def token_type(tokenizer: Tokenizer) -> np.dtype:
    return np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")


def sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(folder: Path, shard: Shard, tokenizer: Tokenizer) -> Counts:
    """Tokenize document by document, with what separates each from the one before."""
    n_tokens, n_bytes, spans = 0, 0, []
    with open(folder / "tokens.bin", "wb") as out:
        for index, document in enumerate(shard.documents, start=shard.first):
            with _located(shard.corpus, shard.split, index):
                separator = np.asarray(tokenizer.separator() if index else [], dtype=np.int64)
                ids = np.asarray(tokenizer.encode(document), dtype=np.int64)
            if len(ids) and not 0 <= ids.min() <= ids.max() < tokenizer.vocab_size:
                raise DataError(
                    f"tokenizer {tokenizer.config.type!r} gave ids from {ids.min()} to {ids.max()}, "
                    f"outside of its vocabulary of {tokenizer.vocab_size}"
                )
            out.write(np.concatenate([separator, ids]).astype(token_type(tokenizer)).tobytes())
            n_tokens += len(separator) + len(ids)
            n_bytes += len(utf8(document)) + len(tokenizer.decode_bytes(separator.tolist()))
            spans += [n_tokens - len(ids), n_tokens]
    (folder / "spans.bin").write_bytes(np.array(spans, dtype="<i8").tobytes())
    return Counts(len(shard.documents), n_tokens, n_bytes)


def _done(place: Path, digest: str) -> Counts | None:
    """What a shard counts that was made before of the same documents and is as its index says, to the byte."""
    try:
        index = json.loads((place / "shard.json").read_text(encoding="utf-8"))
        whole = all(sha256(place / name) == sum_ for name, sum_ in index["sha256"].items())
        return Counts(*index["counts"]) if whole and index["digest"] == digest else None
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: it is made again
        return None


@contextlib.contextmanager
def _located(corpus: str, split: Split, index: int) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"corpus {corpus!r}, {split} split, document {index + 1}: {error}") from None


# ---------------------------------------------------------------------- several processes

Work = Callable[[Path, Iterable[Shard]], Iterator[Counts]]


@contextlib.contextmanager
def at_work(tokenizer_file: Path, workers: int) -> Iterator[Work]:
    """Yield what tokenizes shards into a folder; it gives the counts of each, in order, while later ones are made."""
    if workers == 1:
        tokenizer = load_tokenizer(tokenizer_file)
        yield lambda folder, shards: (tokenize(folder, shard, tokenizer) for shard in shards)
        return
    # Forked, workers know the plugins that were loaded from files too.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    with _quiet_forks(), ProcessPoolExecutor(workers, context, _begin, (tokenizer_file,)) as pool:
        try:
            yield functools.partial(_in_order, pool, _AHEAD * workers)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _in_order(pool: Executor, n_ahead: int, folder: Path, shards: Iterable[Shard]) -> Iterator[Counts]:
    waiting: deque[Future[Counts]] = deque()
    for shard in shards:
        waiting.append(pool.submit(_tokenize_here, folder, shard))
        if len(waiting) > n_ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_here: Any = None  # the tokenizer of a worker


def _begin(tokenizer_file: Path) -> None:
    """Of a worker: Ctrl-C is the parent's to deal with, and a worker whose parent was killed has nobody to work for."""
    global _here
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _here = load_tokenizer(tokenizer_file)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in workers alone
    parent.join()
    os._exit(1)


def _tokenize_here(folder: Path, shard: Shard) -> Counts:
    return tokenize(folder, shard, _here)


@contextlib.contextmanager
def _quiet_forks() -> Iterator[None]:
    """Hugging Face's tokenizers warn in every process that is forked after they used threads, unless this is set."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
