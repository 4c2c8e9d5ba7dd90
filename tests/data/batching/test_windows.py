import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptzoo.data.batching.windows import WindowOrder, evaluation_windows, slice_windows
from gptzoo.errors import DataError

seeds = st.integers(0, 2**63)


@st.composite
def orders(draw: st.DrawFn) -> tuple[WindowOrder, int]:
    length = draw(st.integers(1, 40))
    n_tokens = draw(st.integers(2 * length, 60 * length))
    return WindowOrder(n_tokens, length, draw(seeds)), n_tokens


@given(order=orders(), first=st.integers(0, 500), counts=st.lists(st.integers(0, 70), max_size=5))
def test_a_sample_does_not_depend_on_the_batch_it_is_in(
    order: tuple[WindowOrder, int], first: int, counts: list[int]
) -> None:
    whole = order[0].starts(first, sum(counts))
    begins = first + np.cumsum([0, *counts])
    parts = [order[0].starts(int(begin), count) for begin, count in zip(begins, counts, strict=False)]
    assert whole.dtype == np.int64
    assert whole.tolist() == [start for part in parts for start in part.tolist()]


def test_another_process_computes_the_same_order() -> None:
    code = (
        "from gptzoo.data.batching.windows import WindowOrder\n"
        "print(WindowOrder(10_000, 16, 7).starts(600, 40).tolist())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.strip() == str(WindowOrder(10_000, 16, 7).starts(600, 40).tolist())


@given(order=orders(), epoch=st.integers(0, 20))
def test_an_epoch_covers_the_text_without_gap_or_overlap(order: tuple[WindowOrder, int], epoch: int) -> None:
    windows, n_tokens = order
    starts = np.sort(windows.starts(epoch * windows.n_windows, windows.n_windows))
    assert 0 <= starts[0] < windows.length
    assert (np.diff(starts) == windows.length).all()
    assert starts[-1] + windows.length + 1 <= n_tokens  # the last target exists
    assert n_tokens - windows.n_windows * windows.length < 2 * windows.length  # fewer than two windows are left out


def test_epochs_cut_the_text_at_different_offsets() -> None:
    order = WindowOrder(1000, 50, seed=3)
    offsets = [int(order.starts(epoch * order.n_windows, order.n_windows).min()) for epoch in range(200)]
    assert len(set(offsets)) > 40


def test_each_epoch_and_seed_has_its_own_order() -> None:
    def visits(seed: int, epoch: int) -> list[int]:
        order = WindowOrder(10_000, 10, seed)
        starts = order.starts(epoch * order.n_windows, order.n_windows)
        return (starts // 10).tolist()

    orders = [visits(0, 0), visits(0, 1), visits(1, 0), visits(2**40, 0)]
    for first, second in itertools.combinations(orders, 2):
        assert np.mean(np.array(first) == np.array(second)) < 0.02


@pytest.mark.parametrize("length", [1, 8, 100])
def test_a_text_too_short_for_a_window_at_every_offset_is_rejected(length: int) -> None:
    WindowOrder(2 * length, length, seed=0)
    with pytest.raises(DataError, match=rf"{2 * length - 1} tokens.*context_length {length}\b.*\b{2 * length}\b"):
        WindowOrder(2 * length - 1, length, seed=0)


def test_targets_are_the_inputs_one_token_later() -> None:
    tokens = np.arange(100, 200, dtype=np.uint16)
    inputs, targets = slice_windows(tokens, np.array([0, 7, 93]), length=6)
    assert inputs.tolist() == [[*range(100, 106)], [*range(107, 113)], [*range(193, 199)]]
    assert np.array_equal(targets, inputs + 1)
    assert inputs.dtype == targets.dtype == np.int64


@given(n_tokens=st.integers(2, 3000), length=st.integers(1, 300))
def test_evaluation_predicts_every_token_but_the_first_once_and_in_order(n_tokens: int, length: int) -> None:
    predicted = []
    for start, size in evaluation_windows(n_tokens, length):
        assert 1 <= size <= length
        predicted += range(start + 1, start + size + 1)
    assert predicted == list(range(1, n_tokens))
