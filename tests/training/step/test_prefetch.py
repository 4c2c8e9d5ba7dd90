from __future__ import annotations

import threading

import pytest

from gptzoo.training.step.prefetch import prefetch


def test_results_do_not_depend_on_what_was_prefetched() -> None:
    with prefetch(lambda first: first * 10) as prefetcher:
        assert [prefetcher.get(n, n + 1) for n in (0, 1, 2)] == [0, 10, 20]
        assert prefetcher.get(7, 8) == 70  # not the prefetched one
        assert prefetcher.get(8, 9) == 80


def test_the_next_result_is_prefetched_in_another_thread() -> None:
    prefetched = threading.Event()
    threads = set()

    def load(first: int) -> int:
        threads.add(threading.current_thread().name)
        if first == 1:
            prefetched.set()
        return first

    with prefetch(load) as prefetcher:
        prefetcher.get(0, 1)
        assert prefetched.wait(timeout=60)
    assert threading.current_thread().name not in threads


def test_an_exception_while_prefetching_is_raised_by_get() -> None:
    def load(first: int) -> int:
        if first == 1:
            raise OSError("the disk is gone")
        return first

    with prefetch(load) as prefetcher:
        assert prefetcher.get(0, 1) == 0
        with pytest.raises(OSError, match="the disk is gone"):
            prefetcher.get(1, 2)
