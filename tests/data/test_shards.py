"""Tokenizing in shards: the same files with any number of workers and after any crash, in bounded memory."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest

from gptzoo.component import Config
from gptzoo.data import shards
from gptzoo.data.corpora.corpus import Corpus
from gptzoo.data.prepare import prepare
from gptzoo.data.shards import Counts
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.errors import DataError
from gptzoo.reference import Reference


class Generated(Corpus):
    """A corpus of generated documents, created lazily."""

    def __init__(self, n_documents: int, size: int = 100):
        super().__init__(Config())
        self.n_documents, self.size = n_documents, size

    def documents(self, split: Any) -> Iterator[str]:
        for number in range(self.n_documents if split == "train" else 3):
            yield f"{split} {number} vl é\n".ljust(self.size, "abc"[number % 3])

    def fingerprint(self) -> str:
        return f"{self.n_documents}/{self.size}"


def tokenizer_config(kind: str, **options: Any) -> Config:
    return Reference("tokenizer").validate({"type": kind, **options})


def files(cache: Path) -> dict[str, bytes]:
    (folder,) = (path for path in (cache / "tokens").iterdir() if path.is_dir())
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_the_files_do_not_depend_on_shard_size_or_workers(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for size, workers in ((2**20, 1), (1, 1), (700, 3)):
        cache = tmp_path / f"{size}-{workers}"
        monkeypatch.setenv("GPTZOO_CACHE", str(cache))
        monkeypatch.setattr(shards, "SHARD_BYTES", size)
        prepare(Generated(100), tokenizer_config(kind), workers=workers)
        results.append(files(cache))
        assert [path.name for path in cache.iterdir()] == ["tokens"]
    assert all(result == results[0] for result in results)
    assert len(np.frombuffer(results[0]["train.spans.bin"])) == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_is_reported_per_stage(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 1000)
    calls: list[tuple[str, Counts]] = []
    _, store = prepare(
        Generated(100), tokenizer_config("char"), workers=workers, progress=lambda *call: calls.append(call)
    )
    assert list(dict.fromkeys(stage for stage, _ in calls)) == ["tokenizer", "train", "val"]
    for split, n_documents in (("train", 100), ("val", 3)):
        totals = [sum(column) for column in zip(*(counts for stage, counts in calls if stage == split), strict=True)]
        assert totals == [n_documents, len(getattr(store, split)), store.n_bytes[split]]
    assert sum(stage == "train" for stage, _ in calls) == 10


def test_a_finished_shard_is_reused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 1000)
    encode, encoded = ByteTokenizer.encode, []

    def counting(self: Any, text: str) -> Any:
        encoded.append(text)
        if len(encoded) == 37:
            raise KeyboardInterrupt
        return encode(self, text)

    monkeypatch.setattr(ByteTokenizer, "encode", counting)
    with pytest.raises(KeyboardInterrupt):
        prepare(Generated(100), tokenizer_config("byte"))
    assert not [path for path in (cache / "tokens").iterdir() if path.is_dir()]
    (unfinished,) = cache.glob("unfinished-*")
    assert sum(path.name.startswith("train-") for path in unfinished.iterdir()) == 3
    damaged = unfinished / "train-00000001" / "tokens.bin"
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    _, store = prepare(Generated(100), tokenizer_config("byte"))
    texts = [*Generated(100).documents("train")]
    # The second call encodes the damaged shard and everything after the third shard.
    assert encoded[37:] == [*texts[10:20], *texts[30:], *Generated(100).documents("val")]
    assert [bytes(store.train[begin:end].tolist()).decode() for begin, end in store.spans["train"]] == texts
    assert not list(cache.glob("unfinished-*"))


def test_a_shard_of_different_documents_is_not_reused(tmp_path: Path) -> None:
    tokenizer = tokenizer_config("byte").build()
    shard, other = (next(shards.split_into_shards(Generated(3, size), "train")) for size in (50, 51))
    shards.tokenize_shard(tmp_path, shard, tokenizer)
    assert shards.tokenize_shard(tmp_path, other, tokenizer) == Counts(3, 3 * 52 + 2, 3 * 52)
    assert (tmp_path / shard.name / "tokens.bin").stat().st_size == 2 * (3 * 52 + 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_error_for_a_document_names_it_and_no_files_remain(workers: int, cache: Path) -> None:
    class Wrong(Generated):
        def documents(self, split: Any) -> Iterator[str]:
            yield from super().documents(split)
            if split == "val":
                yield "Ω"

    with pytest.raises(DataError, match=r"val split, document 4: tokenizer 'char' has no token for 'Ω'"):
        prepare(Wrong(10), tokenizer_config("char"), workers=workers)
    assert [path.suffix for path in (cache / "tokens").iterdir()] == [".lock"]
    assert not list(cache.glob("unfinished-*"))


def test_the_death_of_a_worker_is_reported_and_finished_shards_are_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 1000)
    encode, parent = ByteTokenizer.encode, os.getpid()

    def dying(self: Any, text: str) -> Any:
        if text.startswith("train 77") and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(self, text)

    monkeypatch.setattr(ByteTokenizer, "encode", dying)
    with pytest.raises(DataError, match=r"process died.*Start again with fewer workers"):
        prepare(Generated(100), tokenizer_config("byte"), workers=2)
    assert list(cache.glob("unfinished-*/train-*"))
    _, store = prepare(Generated(100), tokenizer_config("byte"))
    assert len(store.spans["train"]) == 100


SLOW = """
import sys, time
from gptzoo.data import shards
from gptzoo.data.prepare import prepare
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.reference import Reference

shards.SHARD_BYTES = 3000
encode = ByteTokenizer.encode
ByteTokenizer.encode = lambda self, text: (time.sleep(0.01), encode(self, text))[1]
corpus = Reference("corpus").validate({"type": "stories", "n_stories": 100}).build()
prepare(corpus, Reference("tokenizer").validate("byte"), workers=int(sys.argv[1]))
"""


def finished_shards(cache: Path) -> dict[str, int]:
    """Return the time of each finished shard, while other processes may write to the folder."""
    times = {}
    for file in glob.glob(f"{cache}/unfinished-*/*/shard.json"):
        with contextlib.suppress(FileNotFoundError):
            times[file] = os.stat(file).st_mtime_ns
    return times


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_repeatedly_killed_processes_end_with_the_same_files(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, kills = random.Random(workers), 0
    cache = tmp_path / "killed"
    environment = {**os.environ, "GPTZOO_CACHE": str(cache), "GPTZOO_PLUGINS": "none"}
    done: dict[str, int] = {}
    while True:
        process = subprocess.Popen([sys.executable, "-c", SLOW, str(workers)], env=environment)
        wanted = len(done) + rng.randrange(2, 7)  # kill the process when this many shards are finished
        while process.poll() is None and len(finished_shards(cache)) < wanted:
            time.sleep(0.005)
        if process.poll() is None:
            time.sleep(rng.random() * 0.05)
            kills += 1
        process.kill()
        if process.wait() == 0:
            break
        # The workers of a killed parent exit too and release the lock.
        for lock in glob.glob(f"{cache}/tokens/*.lock"):
            filelock.FileLock(lock).acquire(timeout=60).lock.release()
        finished = finished_shards(cache)
        merged = glob.glob(f"{cache}/tokens/*/index.json")
        assert merged or done.items() <= finished.items()  # no finished shard was written again
        done = finished
    assert kills >= 3
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "never"))
    prepare(Reference("corpus").validate({"type": "stories", "n_stories": 100}).build(), tokenizer_config("byte"))
    assert files(cache) == files(tmp_path / "never")
    assert not glob.glob(f"{cache}/unfinished-*")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["byte", "char"])
def test_memory_does_not_grow_with_the_corpus(
    workers: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 100_000)

    def peak(n_documents: int) -> int:
        monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / str(n_documents)))
        tracemalloc.start()
        _, store = prepare(Generated(n_documents, 2000), tokenizer_config(kind), workers=workers)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(store.train) >= 2000 * n_documents
        return peak_bytes

    few, many = peak(500), peak(3000)  # 1 MB and 6 MB of text
    assert many < few + 500_000


def test_the_index_of_a_store_has_no_trace_of_shards(cache: Path) -> None:
    prepare(Generated(10), tokenizer_config("byte"))
    index = json.loads(files(cache)["index.json"])
    assert set(index) == {"corpus", "dtype", "vocab_size", "n_tokens", "n_bytes", "sha256", "text", "checksum"}
    assert set(files(cache)) == {*index["sha256"], "index.json"}
