"""Corpora that are wrong with many documents, long documents or large files."""

from __future__ import annotations

import hashlib
import random
from itertools import islice
from pathlib import Path

from pydantic import Field

import gptzoo
from gptzoo.data.corpora.jsonl import JsonlCorpus
from gptzoo.data.corpora.text import TextCorpus

from .table import caught_by


class Numbers(gptzoo.Corpus):
    """Sentences about consecutive numbers, without a file. Every tenth document is held out."""

    name = "numbers"

    class Config(gptzoo.Corpus.Config):
        n_documents: int = Field(default=500, ge=20, le=100_000)
        """Number of documents in both splits."""
        n_words: int = Field(default=20, ge=1, le=10_000)
        """Numbers in each document."""

    def documents(self, split):
        for index in range(self.config.n_documents):
            if (index % 10 == 0) == (split == "val"):
                yield f"{index}: " + " ".join(str(index * word) for word in range(self.config.n_words))

    def fingerprint(self):
        return f"numbers/{self.config.n_documents}/{self.config.n_words}"


@caught_by("documents")
class ShuffleBuffer(Numbers):
    """Numbers, shuffled after the first 128. Wrong: the order beyond is that of the global random generator."""

    name = "shuffle_buffer"

    def documents(self, split):
        documents = super().documents(split)
        yield from islice(documents, 128)
        buffer = list(islice(documents, 64))
        for document in documents:
            slot = random.randrange(len(buffer))
            yield buffer[slot]
            buffer[slot] = document
        yield from buffer


@caught_by("documents")
class OpenIterator(Numbers):
    """Numbers, generated once. Wrong: only the first 256 documents are kept, and a second pass ends there."""

    name = "open_iterator"

    def __init__(self, config):
        super().__init__(config)
        self.kept = {}

    def documents(self, split):
        if split in self.kept:
            yield from self.kept[split]
            return
        kept = []
        for document in super().documents(split):
            if len(kept) < 256:
                kept.append(document)
            yield document
        self.kept[split] = kept


@caught_by("splits")
class SplitByCount(Numbers):
    """Numbers. Wrong: the training split holds documents out in another rhythm from the 100th on."""

    name = "split_by_count"

    def documents(self, split):
        for index, document in enumerate(super().documents(split)):
            yield document
            if split == "train" and index >= 100 and index % 50 == 0:
                yield next(iter(super().documents("val")))


@caught_by("file_fingerprint")
class HeadFingerprint(TextCorpus):
    """Text files. Wrong: the fingerprint reads the first 4,096 bytes of a file and its size."""

    name = "head_fingerprint"

    def fingerprint(self):
        digest = hashlib.sha256(f"{self.config.val_fraction}".encode())
        for path in (self.config.path, self.config.val_path):
            for file in self._files(path) if path else []:
                data = Path(file).read_bytes()
                digest.update(data[:4096] + len(data).to_bytes(8, "little"))
        return digest.hexdigest()


@caught_by("file_fingerprint")
class SetFingerprint(JsonlCorpus):
    """JSON lines. Wrong: the fingerprint adds up the lines, so another order of the documents has the same one."""

    name = "set_fingerprint"

    def fingerprint(self):
        total = 0
        for file in self._files(self.config.path):
            for line in Path(file).read_bytes().splitlines():
                total += int.from_bytes(hashlib.sha256(line).digest()[:8], "little")
        return f"{total}/{self.config.val_fraction}/{self.config.field}"


@caught_by("files")
class LineBuffer(JsonlCorpus):
    """JSON lines in a buffer. Wrong: a document of more than 2,048 characters is cut there."""

    name = "line_buffer"

    def _read(self, file):
        for document in super()._read(file):
            yield document[:2048]
