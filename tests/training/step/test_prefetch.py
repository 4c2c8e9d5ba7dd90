from __future__ import annotations

import threading

import pytest

from gptzoo.training.step.prefetch import prefetch


def test_results_are_those_of_a_call_whatever_was_made_ahead() -> None:
    with prefetch(lambda first: first * 10) as ahead:
        assert [ahead.get(n, n + 1) for n in (0, 1, 2)] == [0, 10, 20]
        assert ahead.get(7, 8) == 70  # another than was announced
        assert ahead.get(8, 9) == 80


def test_the_following_one_is_made_in_another_thread_before_it_is_asked_for() -> None:
    made = threading.Event()
    threads = set()

    def make(first: int) -> int:
        threads.add(threading.current_thread().name)
        if first == 1:
            made.set()
        return first

    with prefetch(make) as ahead:
        ahead.get(0, 1)
        assert made.wait(timeout=60)
    assert threading.current_thread().name not in threads


def test_what_goes_wrong_is_raised_where_the_result_is_asked_for() -> None:
    def make(first: int) -> int:
        if first == 1:
            raise OSError("the disk is gone")
        return first

    with prefetch(make) as ahead:
        assert ahead.get(0, 1) == 0
        with pytest.raises(OSError, match="the disk is gone"):
            ahead.get(1, 2)
