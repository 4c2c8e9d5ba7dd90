"""Penalties and biases against slow references and against transformers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from logits import NEVER, batches, processed, processor
from transformers.generation import logits_process as theirs

from gptzoo import TokenSequence
from gptzoo.errors import InputError

Batch = tuple[np.ndarray, list[TokenSequence]]


@given(batches(), st.floats(0.5, 3))
def test_repetition_penalty_divides_positive_logits_and_multiplies_negative_ones(batch: Batch, value: float) -> None:
    logits, rows = batch
    expected = np.float64(logits)
    for row, row_logits in zip(rows, expected, strict=True):
        for token in set(row.tokens):
            row_logits[token] = row_logits[token] / value if row_logits[token] > 0 else row_logits[token] * value
    result = processed(processor("repetition_penalty", value=value), logits, rows)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-44)  # subnormal float32 numbers are rounded


@given(batches(), st.floats(-2, 2))
def test_presence_penalty_counts_each_new_token_once(batch: Batch, value: float) -> None:
    logits, rows = batch
    expected = np.float64(logits)
    for row, row_logits in zip(rows, expected, strict=True):
        for token in set(row.tokens[row.prompt_length :]):
            row_logits[token] -= value
    result = processed(processor("presence_penalty", value=value), logits, rows)
    np.testing.assert_allclose(result, expected, atol=1e-5)


@given(batches(), st.floats(-2, 2))
def test_frequency_penalty_counts_every_occurrence_among_the_new_tokens(batch: Batch, value: float) -> None:
    logits, rows = batch
    expected = np.float64(logits)
    for row, row_logits in zip(rows, expected, strict=True):
        for token, count in Counter(row.tokens[row.prompt_length :]).items():
            row_logits[token] -= value * count
    result = processed(processor("frequency_penalty", value=value), logits, rows)
    np.testing.assert_allclose(result, expected, atol=1e-4)


@given(batches(), st.integers(1, 4))
def test_no_repeat_ngram_excludes_tokens_that_would_repeat_an_n_gram(batch: Batch, size: int) -> None:
    logits, rows = batch
    expected = np.float64(logits)
    for row, row_logits in zip(rows, expected, strict=True):
        n_grams = {tuple(row.tokens[i : i + size]) for i in range(len(row.tokens) - size + 1)}
        last = tuple(row.tokens[len(row.tokens) - size + 1 :]) if len(row.tokens) >= size - 1 else None
        banned = [] if last is None else [token for token in range(len(row_logits)) if (*last, token) in n_grams]
        penalised = row_logits.copy()
        penalised[banned] = NEVER
        if penalised.max() > NEVER:  # otherwise the row stays unchanged
            row_logits[:] = penalised
    np.testing.assert_array_equal(processed(processor("no_repeat_ngram", size=size), logits, rows), expected)


@given(batches(), st.data())
def test_logit_bias_is_added_to_the_logits(batch: Batch, data: st.DataObject) -> None:
    logits, rows = batch
    ids = st.integers(0, logits.shape[1] - 1)
    biases = data.draw(st.dictionaries(ids, st.floats(-100, 100, width=32), min_size=1))
    expected = np.float64(logits)
    for token, bias in biases.items():
        expected[:, token] += bias
    result = processed(processor("logit_bias", biases={str(t): bias for t, bias in biases.items()}), logits, rows)
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "other"),
    [
        ("repetition_penalty", {"value": 1.3}, theirs.RepetitionPenaltyLogitsProcessor(1.3)),
        ("no_repeat_ngram", {"size": 1}, theirs.NoRepeatNGramLogitsProcessor(1)),
        ("no_repeat_ngram", {"size": 3}, theirs.NoRepeatNGramLogitsProcessor(3)),
        (
            "logit_bias",
            {"biases": {"3": 2.5, "17": -1.0}},
            theirs.SequenceBiasLogitsProcessor([[[3], 2.5], [[17], -1.0]]),
        ),
    ],
)
def test_results_equal_those_of_transformers(name: str, options: dict, other: theirs.LogitsProcessor) -> None:
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        logits = 3 * torch.randn(4, 50, generator=generator)
        tokens = torch.randint(4, (4, 30), generator=generator)
        rows = [TokenSequence(row, prompt_length=5) for row in tokens.tolist()]
        torch.testing.assert_close(processor(name, **options)(logits, rows), other(tokens, logits.clone()))


def test_options_survive_a_round_trip_through_json() -> None:
    config = processor("logit_bias", biases={"7": -1.5}).config
    assert config.biases == {7: -1.5}
    assert type(config).model_validate_json(config.model_dump_json()) == config


def test_an_unknown_token_id_is_reported() -> None:
    with pytest.raises(InputError, match="'logit_bias': token id 9 is outside the model's vocabulary of 5"):
        processor("logit_bias", biases={"9": 1.0})(torch.zeros(1, 5), [TokenSequence([0], 1)])


def test_the_new_tokens_of_a_sequence_come_after_the_prompt() -> None:
    assert TokenSequence([4, 5, 6], prompt_length=1).new == [5, 6]
    assert TokenSequence([4, 5, 6], prompt_length=3).new == []
