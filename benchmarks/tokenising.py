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
from pathlib import Path

from benchmarks.harness.case import OURS, Case, LeftOut, Mismatch, Options

MEGABYTES, TINY_MEGABYTES = 32.0, 0.2
CHARACTERS = 2000  # of a document


def cases(options: Options) -> Iterator[Case | LeftOut]:
    name = "GPT-2 BPE"
    if options.text is None:
        yield LeftOut(name, "needs a text. Give --text FILE")
        return
    try:
        import tiktoken

        tiktoken.get_encoding("gpt2")
    except Exception as error:  # tiktoken raises whatever its download does
        yield LeftOut(name, f"tiktoken has no vocabulary here: {type(error).__name__}")
        return
    tokenizing = Tokenizing(options, TINY_MEGABYTES if options.tiny else MEGABYTES, options.text)
    settings = {"megabytes": round(tokenizing.n_bytes / 1e6, 1), "documents": len(tokenizing.documents)}
    sides = {OURS: tokenizing.prepare, "tiktoken": tokenizing.encode}
    yield Case(name, sides, tokenizing.check, {**settings, "workers": tokenizing.workers}, rounds=7, untimed=0)


class Tokenizing:
    """The documents, and what both sides do with them."""

    def __init__(self, options: Options, megabytes: float, text: Path):
        self.folder, self.workers = options.folder, len(os.sched_getaffinity(0))
        whole = text.read_text(encoding="utf-8")
        starts = itertools.cycle(range(0, len(whole), CHARACTERS))
        self.documents: list[str] = []
        self.n_bytes = 0
        while self.n_bytes < megabytes * 1e6:
            start = next(starts)  # the number makes each document different: gptzoo removes duplicates
            self.documents.append(f"{len(self.documents)}. {whole[start : start + CHARACTERS]}")
            self.n_bytes += len(self.documents[-1].encode())
        self.file = options.folder / "documents.jsonl"
        self.file.write_text("".join(json.dumps({"text": document}) + "\n" for document in self.documents))
        self.calls = itertools.count()

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
        between = len(self.documents) - 2  # ours have a token between the documents of each of the two splits
        ours, theirs = self.count_prepared(), self.count_encoded() + between
        if ours != theirs:
            raise Mismatch(f"gptzoo has {ours} tokens, and tiktoken {theirs} with one between any two documents")
