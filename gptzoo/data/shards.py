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
from gptzoo.data.held_out import TextDigest
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.data.utf8 import encode_utf8
from gptzoo.errors import DataError
from gptzoo.utils.atomic import new_folder, write_json

SHARD_BYTES = 4 * 2**20  # of text; a shard ends with the document that reaches this size


class DocumentSource(Protocol):
    """The part of a corpus that tokenization reads."""

    config: Config

    def documents(self, split: Split) -> Iterator[str]: ...


class Counts(NamedTuple):
    """Numbers of documents, of tokens with separators, and of the UTF-8 bytes of the documents."""

    documents: int
    tokens: int
    n_bytes: int


@dataclass(frozen=True)
class Shard:
    """Consecutive documents of one split."""

    corpus: str  # type of the corpus, for error messages
    split: Split
    number: int
    first: int  # index of the first document in the split
    documents: list[str]
    digest: str  # SHA-256 of the documents
    numbers: Sequence[int]  # numbers of the documents in the corpus, for error messages

    @property
    def name(self) -> str:
        return shard_name(self.split, self.number)


def shard_name(split: Split, number: int) -> str:
    return f"{split}-{number:08d}"


def split_into_shards(
    corpus: DocumentSource, split: Split, text: TextDigest | None = None, n_removed: Callable[[], int] | None = None
) -> Iterator[Shard]:
    """Yield the documents of a split as shards, the same ones in every call, and add them to `text`.

    `n_removed` returns how many documents of the corpus have been left out so far. Raises DataError.
    """
    documents: list[str] = []
    numbers: list[int] = []
    number, first, size, digest = 0, 0, 0, hashlib.sha256()
    for index, document in enumerate(corpus.documents(split)):
        numbers.append(index + 1 + (n_removed() if n_removed else 0))
        with _document_named_in_errors(corpus.config.type, split, numbers[-1]):
            data = encode_utf8(document)
        if text is not None:
            text.add(data)
        digest.update(len(data).to_bytes(8, "little") + data)
        documents.append(document)
        size += len(data)
        if size >= SHARD_BYTES:
            yield Shard(corpus.config.type, split, number, first, documents, digest.hexdigest(), numbers)
            number, first, size, documents, numbers, digest = number + 1, index + 1, 0, [], [], hashlib.sha256()
    if documents:
        yield Shard(corpus.config.type, split, number, first, documents, digest.hexdigest(), numbers)


def tokenize_shard(folder: Path, shard: Shard, tokenizer: Tokenizer) -> Counts:
    """Write the tokens of a shard to `folder`, unless they are already there. Raises DataError."""
    shard_folder = folder / shard.name
    if (counts := _read_finished(shard_folder, shard.digest)) is not None:
        return counts
    shutil.rmtree(shard_folder, ignore_errors=True)
    with new_folder(shard_folder) as temporary:
        counts = _write_tokens(temporary, shard, tokenizer)
        checksums = {name: sha256_of(temporary / name) for name in ("tokens.bin", "spans.bin")}
        write_json(temporary / "shard.json", {"digest": shard.digest, "counts": counts, "sha256": checksums})
    return counts


def merge_shards(folder: Path, split: Split, all_counts: list[Counts], tokens: Path, spans: Path) -> None:
    """Concatenate the shards of a split into one file of tokens and one of document spans."""
    n_tokens = 0
    with open(tokens, "wb") as all_tokens, open(spans, "wb") as all_spans:
        for number, counts in enumerate(all_counts):
            shard_folder = folder / shard_name(split, number)
            with open(shard_folder / "tokens.bin", "rb") as shard_tokens:
                shutil.copyfileobj(shard_tokens, all_tokens, 2**20)
            shard_spans = np.fromfile(shard_folder / "spans.bin", dtype="<i8")
            all_spans.write((shard_spans + n_tokens).astype("<i8").tobytes())
            n_tokens += counts.tokens


def token_dtype(tokenizer: Tokenizer) -> np.dtype:
    """Return the smallest of uint16 and uint32 that holds every token id."""
    return np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")


def sha256_of(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_tokens(folder: Path, shard: Shard, tokenizer: Tokenizer) -> Counts:
    """Tokenize the documents of a shard, each but the first of the split after a separator."""
    n_tokens, n_bytes, spans = 0, 0, []
    with open(folder / "tokens.bin", "wb") as out:
        numbered = zip(shard.numbers, shard.documents, strict=True)
        for index, (number, document) in enumerate(numbered, start=shard.first):
            with _document_named_in_errors(shard.corpus, shard.split, number):
                separator = np.asarray(tokenizer.separator() if index else [], dtype=np.int64)
                ids = np.asarray(tokenizer.encode(document), dtype=np.int64)
            if len(ids) and not 0 <= ids.min() <= ids.max() < tokenizer.vocab_size:
                raise DataError(
                    f"tokenizer {tokenizer.config.type!r} returned ids from {ids.min()} to {ids.max()}, "
                    f"outside its vocabulary of {tokenizer.vocab_size}"
                )
            out.write(np.concatenate([separator, ids]).astype(token_dtype(tokenizer)).tobytes())
            n_tokens += len(separator) + len(ids)
            n_bytes += len(encode_utf8(document))
            spans += [n_tokens - len(ids), n_tokens]
    (folder / "spans.bin").write_bytes(np.array(spans, dtype="<i8").tobytes())
    return Counts(len(shard.documents), n_tokens, n_bytes)


def _read_finished(shard_folder: Path, digest: str) -> Counts | None:
    """Return the counts of a finished shard of the same documents, or None if it is absent or damaged."""
    try:
        index = json.loads((shard_folder / "shard.json").read_text(encoding="utf-8"))
        intact = all(sha256_of(shard_folder / name) == checksum for name, checksum in index["sha256"].items())
        return Counts(*index["counts"]) if intact and index["digest"] == digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _document_named_in_errors(corpus: str, split: Split, number: int) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"corpus {corpus!r}, {split} split, document {number}: {error}") from None
