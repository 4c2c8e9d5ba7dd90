"""Worker processes that tokenize shards."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path

from gptzoo.data.shards import Counts, Shard, tokenize_shard
from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer

_MAX_PENDING_PER_WORKER = 2  # shards; bounds memory

TokenizeShards = Callable[[Path, Iterable[Shard]], Iterator[Counts]]


@contextlib.contextmanager
def shard_workers(tokenizer: Tokenizer, tokenizer_file: Path, workers: int) -> Iterator[TokenizeShards]:
    """Yield a function that writes tokenized shards to a folder and yields their counts in order.

    Later shards are tokenized while the caller handles the counts. One worker is this process itself; several are
    child processes, which load the tokenizer from its file.
    """
    if workers == 1:
        yield lambda folder, shards: (tokenize_shard(folder, shard, tokenizer) for shard in shards)
        return
    # A forked worker inherits the plugins that this process loaded from files.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    with (
        _tokenizers_parallelism_disabled(),
        ProcessPoolExecutor(workers, context, _start_worker, (tokenizer_file,)) as pool,
    ):
        try:
            yield functools.partial(_tokenize_in_order, pool, _MAX_PENDING_PER_WORKER * workers)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _tokenize_in_order(pool: Executor, max_pending: int, folder: Path, shards: Iterable[Shard]) -> Iterator[Counts]:
    pending: deque[Future[Counts]] = deque()
    for shard in shards:
        pending.append(pool.submit(_tokenize_in_worker, folder, shard))
        if len(pending) > max_pending:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


_worker_tokenizer: Tokenizer


def _start_worker(tokenizer_file: Path) -> None:
    """Initialise a worker: leave Ctrl-C to the parent, exit when the parent dies, and load the tokenizer."""
    global _worker_tokenizer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _worker_tokenizer = load_tokenizer(tokenizer_file)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # only a worker runs this function
    parent.join()
    os._exit(1)


def _tokenize_in_worker(folder: Path, shard: Shard) -> Counts:
    return tokenize_shard(folder, shard, _worker_tokenizer)


@contextlib.contextmanager
def _tokenizers_parallelism_disabled() -> Iterator[None]:
    """Set TOKENIZERS_PARALLELISM, without which Hugging Face `tokenizers` prints a warning in every forked process."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
