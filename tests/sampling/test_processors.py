"""Each processor against a slow NumPy reference of the distribution that it leaves."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptzoo import registered
from gptzoo.sampling.processors import Temperature, TopK, TopP

logit_rows = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=30)


def distribution(processor, row: list[float]) -> np.ndarray:
    logits = processor(torch.tensor([row], dtype=torch.float32), [[0]])
    return logits.double().softmax(-1)[0].numpy()


def softmax(row: np.ndarray) -> np.ndarray:
    weights = np.exp(row - row.max())
    return weights / weights.sum()


def by_likelihood(row: np.ndarray) -> list[int]:
    return sorted(range(len(row)), key=lambda token: (-row[token], token))


@given(logit_rows, st.floats(0.05, 5))
def test_temperature_divides_the_logits(row: list[float], value: float) -> None:
    expected = softmax(np.float32(row) / value)
    np.testing.assert_allclose(distribution(Temperature(Temperature.Config(value=value)), row), expected, atol=1e-5)


@given(logit_rows)
def test_temperature_zero_leaves_the_likeliest_token_alone(row: list[float]) -> None:
    expected = np.zeros(len(row))
    expected[int(np.argmax(np.float32(row)))] = 1
    np.testing.assert_array_equal(distribution(Temperature(Temperature.Config(value=0.0)), row), expected)


@given(logit_rows, st.integers(1, 40))
def test_top_k_keeps_the_k_likeliest_in_proportion(row: list[float], k: int) -> None:
    kept = by_likelihood(np.float32(row))[:k]
    weights = np.zeros(len(row))
    weights[kept] = softmax(np.float64(np.float32(row)))[kept]
    np.testing.assert_allclose(distribution(TopK(TopK.Config(k=k)), row), weights / weights.sum(), atol=1e-6)


@given(logit_rows, st.floats(0.01, 1.0))
def test_top_p_keeps_the_smallest_set_that_reaches_p(row: list[float], p: float) -> None:
    probabilities = softmax(np.float64(np.float32(row)))
    result = distribution(TopP(TopP.Config(p=p)), row)
    kept = np.flatnonzero(result)
    order = by_likelihood(np.float32(row))
    assert sorted(order[: len(kept)]) == sorted(kept.tolist())  # the likeliest ones
    assert probabilities[kept].sum() >= p - 1e-5  # enough of them
    without_last = probabilities[order[: len(kept) - 1]].sum()
    assert without_last < p + 1e-5  # and no more than it takes
    np.testing.assert_allclose(result[kept], probabilities[kept] / probabilities[kept].sum(), atol=1e-5)


@given(st.lists(logit_rows.filter(lambda row: len(row) >= 5).map(lambda row: row[:5]), min_size=1, max_size=4))
def test_every_processor_treats_each_row_by_itself_and_leaves_a_choice(rows: list[list[float]]) -> None:
    for component in registered("logits_processor").values():
        processor = component.Config().build()
        together = processor(torch.tensor(rows), [[0]] * len(rows))
        assert (together > float("-inf")).any(dim=-1).all()
        for index, row in enumerate(rows):
            assert torch.equal(together[index : index + 1], processor(torch.tensor([row]), [[0]]))
