"""Tokenized shards of a corpus on disk. A shard folder is complete or absent, and is written only once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from gptzoo.component import Config
from gptzoo.data.corpora.corpus import Split
from gptzoo.data.corpora.file_text import Document
from gptzoo.data.document_parts import parts_of
from gptzoo.data.file_checksums import read_sha256
from gptzoo.data.held_out import TextDigest
from gptzoo.data.tokenizers.library_errors import is_panic
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.data.utf8 import encode_utf8
from gptzoo.errors import DataError
from gptzoo.utils.atomic import new_folder, write_json

SHARD_BYTES = 4 * 2**20  # of text; a shard ends with the document that reaches this size


class DocumentSource(Protocol):
    """The part of a corpus that tokenization reads."""

    config: Config

    def documents(self, split: Split) -> Iterator[Document]: ...


class Counts(NamedTuple):
    """Numbers of documents, of tokens with separators, and of the UTF-8 bytes of the documents."""

    documents: int
    tokens: int
    n_bytes: int


@dataclass(frozen=True)
class Shard:
    """Consecutive documents of one split. Long documents are in parts, which several shards may hold."""

    corpus: str  # type of the corpus, for error messages
    split: Split
    number: int
    first: int  # index of the first document in the split
    documents: list[str]  # or parts of documents
    digest: str  # SHA-256 of the documents
    numbers: Sequence[int]  # numbers of the documents in the corpus, for error messages
    starts: Sequence[bool]  # False for a part that continues the document before it

    @property
    def name(self) -> str:
        return shard_name(self.split, self.number)


def shard_name(split: Split, number: int) -> str:
    return f"{split}-{number:08d}"


def split_into_shards(
    corpus: DocumentSource,
    split: Split,
    text: TextDigest | None = None,
    n_removed: Callable[[], int] | None = None,
    tokenizer: Tokenizer | None = None,
) -> Iterator[Shard]:
    """Yield the documents of a split as shards, the same ones in every call, and add them to `text`.

    `n_removed` returns how many documents of the corpus have been left out so far. The tokenizer determines where a
    long document can be divided into parts. Raises DataError.
    """
    builder = _ShardBuilder(corpus.config.type, split)
    border, tokenizer_type = (None, "") if tokenizer is None else (tokenizer.border, tokenizer.config.type)
    for index, document in enumerate(corpus.documents(split)):
        number = index + 1 + (n_removed() if n_removed else 0)
        location = f"corpus {corpus.config.type!r}, {split} split, document {number}"
        for part_index, part in enumerate(parts_of(document, border, location, tokenizer_type)):
            with _document_named_in_errors(corpus.config.type, split, number):
                data = encode_utf8(part)
            if text is not None:
                text.add_piece(data)
            builder.add(part, data, index, number, starts=part_index == 0)
            if builder.size >= SHARD_BYTES:
                yield builder.take()
        if text is not None:
            text.end_document()
    if builder.documents:
        yield builder.take()


class _ShardBuilder:
    """The documents of the shard that is being filled."""

    def __init__(self, corpus: str, split: Split):
        self.corpus, self.split, self.number = corpus, split, 0
        self._begin()

    def _begin(self) -> None:
        self.documents: list[str] = []
        self.numbers: list[int] = []
        self.starts: list[bool] = []
        self.first, self.size, self.digest = 0, 0, hashlib.sha256()

    def add(self, part: str, data: bytes, index: int, number: int, *, starts: bool) -> None:
        if not self.documents:
            self.first = index
        if not starts:
            self.digest.update(b"continued")
        self.digest.update(len(data).to_bytes(8, "little") + data)
        self.documents.append(part)
        self.numbers.append(number)
        self.starts.append(starts)
        self.size += len(data)

    def take(self) -> Shard:
        """Return the shard and begin the next one."""
        digest = self.digest.hexdigest()
        shard = Shard(
            self.corpus, self.split, self.number, self.first, self.documents, digest, self.numbers, self.starts
        )
        self.number += 1
        self._begin()
        return shard


def tokenize_shard(folder: Path, shard: Shard, tokenizer: Tokenizer) -> Counts:
    """Write the tokens of a shard to `folder`, unless they are already there. Raises DataError."""
    shard_folder = folder / shard.name
    if (counts := _read_finished(shard_folder, shard.digest)) is not None:
        return counts
    shutil.rmtree(shard_folder, ignore_errors=True)
    with new_folder(shard_folder) as temporary:
        counts = _write_tokens(temporary, shard, tokenizer)
        checksums = {name: read_sha256(temporary / name) for name in ("tokens.bin", "spans.bin")}
        write_json(temporary / "shard.json", {"digest": shard.digest, "counts": counts, "sha256": checksums})
    return counts


def merge_shards(folder: Path, split: Split, all_counts: list[Counts], tokens: Path, spans: Path) -> None:
    """Concatenate the shards of a split into one file of tokens and one of document spans."""
    n_tokens = 0
    last_span = np.empty(0, dtype=np.int64)  # of a document that the next shard may continue
    with open(tokens, "wb") as all_tokens, open(spans, "wb") as all_spans:
        for number, counts in enumerate(all_counts):
            shard_folder = folder / shard_name(split, number)
            with open(shard_folder / "tokens.bin", "rb") as shard_tokens:
                shutil.copyfileobj(shard_tokens, all_tokens, 2**20)
            shard_spans = np.fromfile(shard_folder / "spans.bin", dtype="<i8").astype(np.int64) + n_tokens
            if len(shard_spans) > 2 * counts.documents:  # the first span continues the last document
                last_span[1], shard_spans = shard_spans[1], shard_spans[2:]
            if len(shard_spans):
                all_spans.write(last_span.astype("<i8").tobytes())
                all_spans.write(shard_spans[:-2].astype("<i8").tobytes())
                last_span = shard_spans[-2:].copy()
            n_tokens += counts.tokens
        all_spans.write(last_span.astype("<i8").tobytes())


def token_dtype(tokenizer: Tokenizer) -> np.dtype:
    """Return the smallest of uint16 and uint32 that holds every token id."""
    return np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")


def _write_tokens(folder: Path, shard: Shard, tokenizer: Tokenizer) -> Counts:
    """Tokenize the documents of a shard, each but the first of the split after a separator."""
    n_tokens, n_bytes = 0, 0
    spans: list[list[int]] = []  # begin and end of each document
    with open(folder / "tokens.bin", "wb") as out:
        parts = zip(shard.numbers, shard.documents, shard.starts, strict=True)
        for index, (number, part, starts) in enumerate(parts):
            with _document_named_in_errors(shard.corpus, shard.split, number):
                after_another = starts and (index > 0 or shard.first > 0)
                separator = np.asarray(tokenizer.separator() if after_another else [], dtype=np.int64)
                encode = tokenizer.encode if starts else tokenizer.encode_continuation
                ids = np.asarray(encode(part), dtype=np.int64)
            if len(ids) and not 0 <= ids.min() <= ids.max() < tokenizer.vocab_size:
                raise DataError(
                    f"tokenizer {tokenizer.config.type!r} returned ids from {ids.min()} to {ids.max()}, "
                    f"outside its vocabulary of {tokenizer.vocab_size}"
                )
            out.write(np.concatenate([separator, ids]).astype(token_dtype(tokenizer)).tobytes())
            n_tokens += len(separator) + len(ids)
            n_bytes += len(encode_utf8(part))
            if starts or not spans:
                spans.append([n_tokens - len(ids), n_tokens])
            else:
                spans[-1][1] = n_tokens
    (folder / "spans.bin").write_bytes(np.array(spans, dtype="<i8").tobytes())
    return Counts(sum(shard.starts), n_tokens, n_bytes)


def _read_finished(shard_folder: Path, digest: str) -> Counts | None:
    """Return the counts of a finished shard of the same documents, or None if it is absent or damaged."""
    try:
        index = json.loads((shard_folder / "shard.json").read_text(encoding="utf-8"))
        intact = all(read_sha256(shard_folder / name) == checksum for name, checksum in index["sha256"].items())
        return Counts(*index["counts"]) if intact and index["digest"] == digest else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@contextlib.contextmanager
def _document_named_in_errors(corpus: str, split: Split, number: int) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"corpus {corpus!r}, {split} split, document {number}: {error}") from None
    except BaseException as error:
        if not is_panic(error):
            raise
        raise DataError(
            f"corpus {corpus!r}, {split} split, document {number}: a library of the tokenizer failed: {error}"
        ) from None
