import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptzoo.data.batching.order import Order, evaluation_windows, permute, windows
from gptzoo.errors import DataError

keys = st.integers(0, 2**64 - 1)
seeds = st.integers(0, 2**63)


@st.composite
def orders(draw: st.DrawFn) -> tuple[Order, int]:
    length = draw(st.integers(1, 40))
    n_tokens = draw(st.integers(2 * length, 60 * length))
    return Order(n_tokens, length, draw(seeds)), n_tokens


@given(n=st.integers(1, 5000), key=keys)
def test_a_permutation_has_every_index_once(n: int, key: int) -> None:
    images = permute(np.arange(n), n, key)
    assert images.dtype == np.int64
    assert np.array_equal(np.sort(images), np.arange(n))


@given(n=st.integers(1, 2**40), key=keys, indices=st.lists(st.integers(0, 2**40 - 1), min_size=1, max_size=50))
def test_a_permutation_of_a_huge_range_needs_no_table(n: int, key: int, indices: list[int]) -> None:
    wanted = np.unique(np.array(indices) % n)
    images = permute(wanted, n, key)
    assert len(np.unique(images)) == len(wanted)
    assert images.min() >= 0
    assert images.max() < n


def test_an_index_is_sent_anywhere_with_the_same_probability() -> None:
    n, n_keys = 10, 4000
    for index in (0, 7):
        counts = np.bincount([permute(np.array([index]), n, key)[0] for key in range(n_keys)], minlength=n)
        chi_squared = ((counts - n_keys / n) ** 2 / (n_keys / n)).sum()
        assert chi_squared < 27.9  # 9 degrees of freedom, p = 0.001; the keys are fixed, so this cannot flicker


def test_the_order_keeps_nothing_of_the_order_in_the_text() -> None:
    n = 2000
    for key in range(20):
        images = permute(np.arange(n), n, key)
        assert abs(np.corrcoef(np.arange(n), images)[0, 1]) < 4 / np.sqrt(n)
        assert abs(np.corrcoef(images[:-1], images[1:])[0, 1]) < 4 / np.sqrt(n)
        other = permute(np.arange(n), n, key + 1)
        assert abs(np.corrcoef(images, other)[0, 1]) < 4 / np.sqrt(n)


@given(order=orders(), first=st.integers(0, 500), counts=st.lists(st.integers(0, 70), max_size=5))
def test_samples_are_the_same_however_they_are_asked_for(
    order: tuple[Order, int], first: int, counts: list[int]
) -> None:
    whole = order[0].starts(first, sum(counts))
    begins = first + np.cumsum([0, *counts])
    parts = [order[0].starts(int(begin), count) for begin, count in zip(begins, counts, strict=False)]
    assert whole.dtype == np.int64
    assert whole.tolist() == [start for part in parts for start in part.tolist()]


def test_the_order_is_the_same_in_another_process() -> None:
    code = "from gptzoo.data.batching.order import Order; print(Order(10_000, 16, 7).starts(600, 40).tolist())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.strip() == str(Order(10_000, 16, 7).starts(600, 40).tolist())


@given(order=orders(), epoch=st.integers(0, 20))
def test_an_epoch_reads_one_stretch_of_the_text_without_gap_or_overlap(order: tuple[Order, int], epoch: int) -> None:
    it, n_tokens = order
    starts = np.sort(it.starts(epoch * it.n_windows, it.n_windows))
    assert 0 <= starts[0] < it.length
    assert (np.diff(starts) == it.length).all()
    assert starts[-1] + it.length + 1 <= n_tokens  # the last target exists
    assert n_tokens - it.n_windows * it.length < 2 * it.length  # and hardly anything is left out


def test_epochs_cut_the_text_at_different_offsets() -> None:
    order = Order(1000, 50, seed=3)
    offsets = [int(order.starts(epoch * order.n_windows, order.n_windows).min()) for epoch in range(200)]
    assert len(set(offsets)) > 40


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def visits(seed: int, epoch: int) -> list[int]:
        order = Order(10_000, 10, seed)
        starts = order.starts(epoch * order.n_windows, order.n_windows)
        return (starts // 10).tolist()

    seen = [visits(0, 0), visits(0, 1), visits(1, 0), visits(2**40, 0)]
    for index, one in enumerate(seen):
        for other in seen[index + 1 :]:
            assert np.mean(np.array(one) == np.array(other)) < 0.02


@pytest.mark.parametrize("length", [1, 8, 100])
def test_a_text_without_room_for_a_window_at_every_offset_is_refused(length: int) -> None:
    Order(2 * length, length, seed=0)
    with pytest.raises(DataError, match=rf"{2 * length - 1} tokens.*context_length {length}\b.*\b{2 * length}\b"):
        Order(2 * length - 1, length, seed=0)


def test_targets_are_the_inputs_one_token_later() -> None:
    tokens = np.arange(100, 200, dtype=np.uint16)
    inputs, targets = windows(tokens, np.array([0, 7, 93]), length=6)
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
