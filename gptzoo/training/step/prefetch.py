"""Prefetching: a thread builds the next batch while the device computes on the current one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """A loader that calls the pure function `load(first)` one call ahead of its use.

    The results do not depend on the thread: a prefetched result for another `first` is discarded.
    """

    def __init__(self, load: Callable[[int], T], pool: ThreadPoolExecutor):
        self.load = load
        self.pool = pool
        self.prefetched_first = -1
        self.prefetched: Future[T] | None = None

    def get(self, first: int, next_first: int) -> T:
        """Return `load(first)` and start `load(next_first)`. An exception in `load` is raised here."""
        if self.prefetched is not None and self.prefetched_first == first:
            future = self.prefetched
        else:
            future = self.pool.submit(self.load, first)
        value = future.result()
        self.prefetched_first = next_first
        self.prefetched = self.pool.submit(self.load, next_first)
        return value


@contextlib.contextmanager
def prefetch(load: Callable[[int], T]) -> Iterator[Prefetcher[T]]:
    """Yield a `Prefetcher` whose thread ends with the block."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    try:
        yield Prefetcher(load, pool)
    finally:
        pool.shutdown(cancel_futures=True)
