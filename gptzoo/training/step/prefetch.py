"""Batches made by a thread while the device computes on the one before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Calls `make(first)`, a pure function, one call ahead of who asks for its results.

    Which results are made does not depend on the thread: one that was made for another `first` is thrown away.
    """

    def __init__(self, make: Callable[[int], T], pool: ThreadPoolExecutor):
        self.make = make
        self.pool = pool
        self.first = -1
        self.result: Future[T] | None = None

    def get(self, first: int, following: int) -> T:
        """The result of `first`; that of `following` is begun. What `make` raises is raised here."""
        result = self.result if self.result is not None and self.first == first else self.pool.submit(self.make, first)
        value = result.result()
        self.first, self.result = following, self.pool.submit(self.make, following)
        return value


@contextlib.contextmanager
def prefetch(make: Callable[[int], T]) -> Iterator[Prefetcher[T]]:
    """An `Prefetcher` whose thread ends with the block."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    try:
        yield Prefetcher(make, pool)
    finally:
        pool.shutdown(cancel_futures=True)
