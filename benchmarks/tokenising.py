"""Tokenizing with GPT-2's BPE, against the batch call of tiktoken.

"gptzoo"    reads a JSON Lines file of documents, tokenizes it in a process per core, and writes the token store
"tiktoken"  `encode_ordinary_batch` on the same documents in memory, with a thread per core: nothing is read or written

Needs --text FILE, whose pieces of 2,000 characters are the documents, and the vocabulary in tiktoken's cache. The text
is repeated to the size of the case. Before anything is timed, the numbers of tokens are compared.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from benchmarks.harness.case import OURS, Case, LeftOut, Mismatch, Options

MEGABYTES, TINY_MEGABYTES = 32.0, 0.2
CHARACTERS = 2000  # of a document


def cases(options: Options) -> Iterator[Case | LeftOut]:
    name = "GPT-2 BPE"
    if options.text is None:
        yield LeftOut(name, "needs a text. Give --text FILE")
        return
    tokenizing = Tokenizing(options.folder, TINY_MEGABYTES if options.tiny else MEGABYTES, options.text)
    settings = {
        "megabytes": tokenizing.megabytes,
        "text": options.text.stat().st_size,
        "workers": tokenizing.workers,
    }
    sides = {OURS: tokenizing.prepare, "tiktoken": tokenizing.encode}
    yield Case(name, sides, tokenizing.check, settings, rounds=7, untimed=0)


class Tokenizing:
    """The documents, and what both sides do with them."""

    def __init__(self, folder: Path, megabytes: float, text: Path):
        self.folder, self.megabytes, self.text = folder, megabytes, text
        self.workers = len(os.sched_getaffinity(0))
        self.calls = itertools.count()

    @cached_property
    def documents(self) -> list[str]:
        """The pieces of the text. Each begins with its number, because gptzoo removes duplicates."""
        whole = self.text.read_text(encoding="utf-8")
        pieces = itertools.cycle(whole[start : start + CHARACTERS] for start in range(0, len(whole), CHARACTERS))
        documents, n_bytes = [], 0
        while n_bytes < self.megabytes * 1e6:
            documents.append(f"{len(documents)}. {next(pieces)}")
            n_bytes += len(documents[-1].encode())
        return documents

    @cached_property
    def file(self) -> Path:
        """The documents as JSON Lines."""
        file = self.folder / "documents.jsonl"
        file.write_text("".join(json.dumps({"text": document}) + "\n" for document in self.documents))
        return file

    def prepare(self) -> None:
        self.count_prepared()

    def count_prepared(self) -> int:
        """Tokenize with gptzoo into an empty cache, and return the number of tokens."""
        from gptzoo.data.prepare import prepare
        from gptzoo.reference import Reference

        os.environ["GPTZOO_CACHE"] = str(self.folder / f"cache-{next(self.calls)}")
        corpus = Reference("corpus").validate({"type": "jsonl", "path": str(self.file)}).build()
        tokenizer = Reference("tokenizer").validate("tiktoken")
        _, store = prepare(corpus, tokenizer, workers=self.workers)
        return len(store.train) + len(store.val)

    def encode(self) -> None:
        self.count_encoded()

    def count_encoded(self) -> int:
        """Tokenize with tiktoken, and return the number of tokens."""
        import tiktoken

        encoded = tiktoken.get_encoding("gpt2").encode_ordinary_batch(self.documents, num_threads=self.workers)
        return sum(map(len, encoded))

    def check(self) -> None:
        from gptzoo.errors import DataError

        try:
            ours = self.count_prepared()
        except DataError as error:  # there is no vocabulary, and none can be downloaded
            raise Mismatch(str(error)) from None
        between = len(self.documents) - 2  # ours have a token between the documents of each of the two splits
        theirs = self.count_encoded() + between
        if ours != theirs:
            raise Mismatch(f"gptzoo has {ours} tokens, and tiktoken {theirs} with one between any two documents")
