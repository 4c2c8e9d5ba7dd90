"""Temperature and truncation against slow NumPy references and transformers, and the order of processors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from logits import NEVER, batches, best_first, only, processed, processor, softmax
from transformers.generation import logits_process as theirs

import gptzoo
from gptzoo.errors import InputError
from gptzoo.reference import Reference
from gptzoo.sampling.processors.processor import build_processors

Batch = tuple[np.ndarray, list[gptzoo.TokenSequence]]


@given(batches(), st.floats(0.05, 5))
def test_temperature_divides_the_logits(batch: Batch, value: float) -> None:
    logits, rows = batch
    result = softmax(processed(processor("temperature", value=value), logits, rows))
    np.testing.assert_allclose(result, softmax(np.float64(logits) / value), atol=1e-5)


@given(batches(), st.sampled_from([0.0, 1e-300, 1e-6]))
def test_temperature_zero_keeps_only_the_most_likely_token(batch: Batch, value: float) -> None:
    logits, rows = batch
    result = processed(processor("temperature", value=value), logits, rows)
    assert (result > NEVER).sum(-1).tolist() == [1] * len(rows)
    assert result.argmax(-1).tolist() == [best_first(row)[0] for row in logits]


@given(batches())
def test_the_highest_temperature_makes_all_possible_tokens_equally_likely(batch: Batch) -> None:
    logits, rows = batch
    result = softmax(processed(processor("temperature", value=1e300), logits, rows))
    possible = logits > NEVER
    np.testing.assert_allclose(result, possible / possible.sum(-1, keepdims=True), atol=1e-6)


@given(batches(), st.integers(1, 30))
def test_top_k_keeps_the_k_most_likely_tokens_and_breaks_ties_by_id(batch: Batch, k: int) -> None:
    logits, rows = batch
    expected = [only(row, best_first(row)[:k]) for row in logits]
    np.testing.assert_array_equal(processed(processor("top_k", k=k), logits, rows), expected)


@given(batches(), st.floats(0.01, 1.0))
def test_top_p_keeps_the_most_likely_tokens_that_reach_p_and_no_more(batch: Batch, p: float) -> None:
    logits, rows = batch
    result = processed(processor("top_p", p=p), logits, rows)
    for row, result_row in zip(logits, result, strict=True):
        _check_reached(row, result_row, best_first(row), p)


@given(batches(), st.floats(0.01, 1.0))
def test_typical_keeps_the_tokens_closest_to_the_entropy_that_reach_p_and_no_more(batch: Batch, p: float) -> None:
    logits, rows = batch
    result = processed(processor("typical", p=p), logits, rows)
    for row, result_row in zip(logits, result, strict=True):
        probabilities = softmax(row)
        with np.errstate(divide="ignore"):
            surprisal = -np.log(probabilities)
        entropy = (probabilities[probabilities > 0] * surprisal[probabilities > 0]).sum()
        distance = np.abs(surprisal - entropy)
        kept = np.flatnonzero(result_row > NEVER)
        rest = np.setdiff1d(np.flatnonzero(row > NEVER), kept)
        if len(rest):  # none of them is closer, up to the precision of float32
            assert distance[kept].max() <= distance[rest].min() + 1e-4
        order = sorted(kept, key=lambda token: distance[token])
        _check_reached(row, result_row, [*order, *rest], p, slack=probabilities[kept].max() if _tied(distance) else 0.0)


def _tied(distance: np.ndarray) -> bool:
    """Return True if rounding may decide which of two tokens comes first."""
    return bool((np.diff(np.sort(distance[np.isfinite(distance)])) < 1e-4).any())


def _check_reached(row: np.ndarray, result_row: np.ndarray, order: list[int], p: float, slack: float = 0.0) -> None:
    """Assert that the kept tokens are the first of `order`, as few as reach the total probability `p`."""
    probabilities = softmax(row)
    kept = np.flatnonzero(result_row > NEVER)
    np.testing.assert_array_equal(result_row[kept], row[kept])
    if p == 1:
        np.testing.assert_array_equal(result_row, row)
        return
    assert sorted(token for token in order[: len(kept)] if row[token] > NEVER) == kept.tolist()
    assert probabilities[kept].sum() >= p - 1e-5
    assert probabilities[order[: len(kept) - 1]].sum() < p + 1e-5 + slack


@given(batches(), st.floats(0.01, 1.0))
def test_min_p_keeps_tokens_at_least_p_times_as_likely_as_the_most_likely(batch: Batch, p: float) -> None:
    logits, rows = batch
    result = processed(processor("min_p", p=p), logits, rows)
    share = softmax(logits) / softmax(logits).max(-1, keepdims=True)
    assert (result[share > p * 1.00001] > NEVER).all()
    assert (result[share < p * 0.99999] == NEVER).all()
    np.testing.assert_array_equal(result[result > NEVER], logits[result > NEVER])
    assert (result > NEVER).any(-1).all()


THEIRS = {
    "temperature": ({"value": 0.7}, theirs.TemperatureLogitsWarper(0.7)),
    "top_k": ({"k": 7}, theirs.TopKLogitsWarper(7)),
    "top_p": ({"p": 0.8}, theirs.TopPLogitsWarper(0.8)),
    "min_p": ({"p": 0.1}, theirs.MinPLogitsWarper(0.1)),
    "typical": ({"p": 0.6}, theirs.TypicalLogitsWarper(0.6)),
}


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("n_tokens", [40, 600, 50257])
@pytest.mark.parametrize("scale", [0.3, 3.0, 8.0])
def test_results_equal_those_of_transformers(name: str, n_tokens: int, scale: float) -> None:
    options, other = THEIRS[name]
    generator = torch.Generator().manual_seed(n_tokens)
    logits = scale * torch.randn(3, n_tokens, generator=generator)
    logits[:, ::5] = NEVER
    ours = processor(name, **options)(logits, _rows(3))
    expected = other(torch.zeros(3, 1, dtype=torch.long), logits.clone())
    if name == "typical":  # which one is last depends on how the probabilities before it were added up
        assert ((ours > NEVER) != (expected > NEVER)).sum() <= 3
        torch.testing.assert_close(*(torch.where((ours > NEVER) & (expected > NEVER), x, 0) for x in (ours, expected)))
    elif name == "top_p":
        assert ((ours > NEVER) != (expected > NEVER)).sum() <= 3
    else:
        torch.testing.assert_close(ours, expected)


def _rows(n_rows: int) -> list[gptzoo.TokenSequence]:
    return [gptzoo.TokenSequence([0], prompt_length=1)] * n_rows


@pytest.mark.parametrize("name", ["top_k", "top_p", "typical"])
@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 4.0])
def test_ties_in_a_large_vocabulary_are_broken_by_id(name: str, scale: float) -> None:
    """With integer logits the boundary is always a tie, where a partial sort may return any of the tokens."""
    generator = torch.Generator().manual_seed(1)
    logits = (scale * torch.randn(2, 20_000, generator=generator)).round()
    options = {"k": 700} if name == "top_k" else {"p": 0.7}
    result = processor(name, **options)(logits, _rows(2))
    for row, result_row in zip(logits, result, strict=True):
        kept = result_row > NEVER
        for value in row.unique():
            among = kept[row == value]
            assert not among.diff().any() or among[: int(among.sum())].all()
        if name == "top_k":
            assert kept.sum() == 700


def test_processors_are_applied_in_order() -> None:
    hot, nucleus = {"type": "temperature", "value": 3.0}, {"type": "top_p", "p": 0.8}
    their_hot, their_nucleus = theirs.TemperatureLogitsWarper(3.0), theirs.TopPLogitsWarper(0.8)
    logits = torch.randn(2, 30, generator=torch.Generator().manual_seed(0)) * 3
    results = []
    for ours, others in (([hot, nucleus], [their_hot, their_nucleus]), ([nucleus, hot], [their_nucleus, their_hot])):
        result_row, expected = logits, logits
        for process in build_processors(_configs(*ours)):
            result_row = process(result_row, _rows(2))
        for warp in others:
            expected = warp(torch.zeros(2, 1, dtype=torch.long), expected)
        torch.testing.assert_close(result_row, expected)
        results.append(result_row)
    assert not torch.equal(*results)


def _reference(name: str, options: dict[str, Any], logits: np.ndarray, row: gptzoo.TokenSequence) -> np.ndarray:
    """Apply one processor to a row of logits, in NumPy and float64."""
    if name == "temperature":
        return logits / options["value"]
    if name == "top_k":
        return only(logits, best_first(logits)[: options["k"]])
    if name == "min_p":
        return np.where(softmax(logits) >= options["p"] * softmax(logits).max(), logits, NEVER)
    if name == "top_p":
        order = best_first(logits)
        before = np.concatenate([[0.0], softmax(logits)[order].cumsum()[:-1]])
        return only(logits, [token for token, held in zip(order, before, strict=True) if held < options["p"]])
    result_row = logits.copy()
    for token in set(row.tokens if name == "repetition_penalty" else row.new):
        times = row.new.count(token) if name == "frequency_penalty" else 1
        if name != "repetition_penalty":
            result_row[token] -= options["value"] * times
        else:
            result_row[token] = (
                result_row[token] / options["value"] if result_row[token] > 0 else result_row[token] * options["value"]
            )
    return result_row


CHAINS = st.lists(
    st.one_of(
        st.tuples(st.just("temperature"), st.fixed_dictionaries({"value": st.sampled_from([0.5, 1.5])})),
        st.tuples(st.just("top_k"), st.fixed_dictionaries({"k": st.integers(1, 9)})),
        st.tuples(st.just("min_p"), st.fixed_dictionaries({"p": st.sampled_from([0.013, 0.21])})),
        st.tuples(st.just("top_p"), st.fixed_dictionaries({"p": st.sampled_from([0.31, 0.87])})),
        st.tuples(st.just("repetition_penalty"), st.fixed_dictionaries({"value": st.sampled_from([0.7, 1.3])})),
        st.tuples(st.just("presence_penalty"), st.fixed_dictionaries({"value": st.sampled_from([-0.6, 0.4])})),
        st.tuples(st.just("frequency_penalty"), st.fixed_dictionaries({"value": st.sampled_from([-0.6, 0.4])})),
    ),
    min_size=2,
    max_size=5,
)


@given(st.integers(0, 10_000), CHAINS)
def test_a_chain_of_processors_equals_the_chain_of_their_numpy_references(seed: int, chain: list[Any]) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (3, 30)).astype(np.float32)  # without ties
    rows = [gptzoo.TokenSequence(random.integers(0, 30, 12).tolist(), prompt_length=5) for _ in logits]
    expected = [np.float64(row) for row in logits]
    for name, options in chain:
        expected = [_reference(name, options, result_row, row) for result_row, row in zip(expected, rows, strict=True)]
    processed_logits = torch.from_numpy(logits)
    for process in build_processors(_configs(*({"type": name, **options} for name, options in chain))):
        processed_logits = process(processed_logits, rows)
    np.testing.assert_allclose(softmax(processed_logits.numpy()), softmax(np.array(expected)), atol=1e-5)


def test_generate_applies_processors_in_order() -> None:
    model = gptzoo.build({"vocab_size": 23, "context_length": 32, "d_model": 32, "n_layers": 1, "n_heads": 4}, seed=3)
    ban_then_greedy = [{"type": "banned_tokens", "ids": list(range(22))}, {"type": "temperature", "value": 0.0}]
    spec = gptzoo.SamplingSpec.model_validate({"max_new_tokens": 3, "processors": ban_then_greedy})
    assert gptzoo.generate(model, [[1]], spec) == [[22, 22, 22]]


def _configs(*data: Any) -> list[Any]:
    return [Reference("logits_processor").validate(one) for one in data]


def test_constraints_must_come_before_other_processors() -> None:
    late = _configs({"type": "temperature", "value": 0.0}, {"type": "banned_tokens", "ids": [1]})
    with pytest.raises(InputError, match=r"'banned_tokens' comes after 'temperature'.*Put 'banned_tokens' first"):
        build_processors(late)
    built = build_processors(_configs({"type": "banned_tokens", "ids": [1]}, {"type": "forced_tokens", "ids": [2]}))
    assert [type(process).__name__ for process in built] == ["BannedTokens", "ForcedTokens"]


INVALID_OPTIONS = [
    ("temperature", {"value": -0.1}),
    ("temperature", {"value": float("inf")}),
    ("top_k", {"k": 0}),
    ("top_p", {"p": 0.0}),
    ("top_p", {"p": 1.1}),
    ("min_p", {"p": 0.0}),
    ("typical", {"p": float("nan")}),
    ("repetition_penalty", {"value": 0.0}),
    ("repetition_penalty", {"value": 1e300}),
    ("presence_penalty", {"value": float("inf")}),
    ("frequency_penalty", {"value": 1e5}),
    ("no_repeat_ngram", {"size": 0}),
    ("logit_bias", {"biases": {}}),
    ("logit_bias", {"biases": {"-1": 1.0}}),
    ("logit_bias", {"biases": {"x": 1.0}}),
    ("logit_bias", {"biases": {"1": float("nan")}}),
    ("banned_tokens", {}),
    ("banned_tokens", {"texts": [""]}),
    ("banned_tokens", {"ids": [-1]}),
    ("forced_tokens", {}),
    ("forced_tokens", {"ids": [1], "text": "a"}),
    ("regex", {}),
]


@pytest.mark.parametrize(("name", "options"), INVALID_OPTIONS, ids=lambda value: str(value))
def test_invalid_options_are_rejected_when_the_spec_is_read(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"processors\.0"):
        gptzoo.SamplingSpec.model_validate({"processors": [{"type": name, **options}]})


def test_every_processor_names_a_paper() -> None:
    assert [name for name, component in gptzoo.registered("logits_processor").items() if not component.paper] == []


@given(
    batches(),
    st.sampled_from(["top_p", "typical", "min_p"]),
    st.sampled_from([5e-324, 1e-300, 1e-46, 1e-45, 1e-9, 1.0 - 2**-53, 1.0]),
)
def test_a_filter_keeps_a_possible_token_whatever_its_number(batch: Batch, name: str, p: float) -> None:
    logits, rows = batch
    result = processed(processor(name, p=p), logits, rows)
    kept = result > NEVER
    assert kept.any(-1).all()
    np.testing.assert_array_equal(result[kept], np.float64(logits)[kept])


@pytest.mark.parametrize("name", ["top_p", "typical"])
@pytest.mark.parametrize("vocab_size", [600, 9000])  # more than the sizes of the top that is sorted first
def test_a_filter_keeps_one_token_of_a_large_vocabulary(name: str, vocab_size: int) -> None:
    logits = torch.randn(2, vocab_size, generator=torch.Generator().manual_seed(1))
    result = processor(name, p=1e-300)(logits, [gptzoo.TokenSequence([1], 1)] * 2)
    assert (result > NEVER).sum(-1).tolist() == [1, 1]


@given(batches(), st.sampled_from([1, 2, 10**9, 10**30]))
def test_top_k_keeps_a_possible_token_whatever_its_number(batch: Batch, k: int) -> None:
    logits, rows = batch
    assert (processed(processor("top_k", k=k), logits, rows) > NEVER).any(-1).all()
