from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from support import loud, small
from torch import Tensor

import gptzoo
from gptzoo.errors import InputError
from gptzoo.sampling.score import score
from gptzoo.sampling.speculative import speculate, speculative_stream

V = 7
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ring": {"attention": {"type": "sdpa", "window": 4}, "positional": "rope"},  # cannot be rolled back
    "naive": {"attention": "naive", "positional": "sinusoidal"},
}


def pair(kind: str) -> tuple[gptzoo.Architecture, gptzoo.Architecture]:
    """A model, and a smaller one that is often of its opinion but not always."""
    model = loud(gptzoo.build(small(vocab_size=V, **KINDS[kind]), seed=3)).eval()
    draft = loud(gptzoo.build(small(vocab_size=V, n_layers=1, d_model=16, n_heads=2, **KINDS[kind]), seed=5)).eval()
    return model, draft


def own(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    return logits.double().softmax(-1)


def greedy(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    return torch.nn.functional.one_hot(logits.argmax(-1), V).double()


def run(kind: str, distribution: Any, length: int, seed: int = 0, n_ahead: int = 3) -> tuple[list[int], int]:
    model, draft = pair(kind)
    generator = torch.Generator().manual_seed(seed)
    rounds = list(
        speculate(model, draft, [1, 2, 3], distribution, max_new_tokens=length, n_ahead=n_ahead, generator=generator)
    )
    return [choice.token for settled in rounds for choice in settled], len(rounds)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_ahead", [1, 2, 5])
def test_greedy_gives_the_tokens_of_the_large_model_alone(kind: str, n_ahead: int) -> None:
    model, _ = pair(kind)
    spec = {"max_new_tokens": 12, "processors": [{"type": "temperature", "value": 0}]}
    expected = gptzoo.generate(model, [[1, 2, 3]], gptzoo.SamplingSpec.model_validate(spec))[0]
    tokens, _ = run(kind, greedy, 12, n_ahead=n_ahead)
    assert tokens == expected


def test_a_draft_that_is_the_model_itself_is_always_right() -> None:
    model, _ = pair("plain")
    generator = torch.Generator().manual_seed(0)
    rounds = list(speculate(model, model, [1], own, max_new_tokens=12, n_ahead=3, generator=generator))
    assert [len(settled) for settled in rounds] == [4, 4, 4]


@pytest.mark.parametrize(
    ("kind", "n_draws"),
    [
        ("plain", 500),
        pytest.param("plain", 5000, marks=pytest.mark.slow),
        pytest.param("ring", 5000, marks=pytest.mark.slow),
    ],
)
def test_the_distribution_of_texts_is_exactly_that_of_the_large_model(kind: str, n_draws: int) -> None:
    """Chi-squared over the last two of three new tokens."""
    model, draft = pair(kind)
    counts: Counter[tuple[int, ...]] = Counter()
    generator = torch.Generator().manual_seed(1)
    for _ in range(n_draws):
        rounds = speculate(model, draft, [1, 2, 3], own, max_new_tokens=3, n_ahead=2, generator=generator)
        counts[tuple(choice.token for settled in rounds for choice in settled)[1:]] += 1
    expected = torch.zeros(V, V, dtype=torch.float64)
    with torch.no_grad():
        first = model(torch.tensor([[1, 2, 3]]))[0][0, -1].double().softmax(-1)
        for a in range(V):
            second = model(torch.tensor([[1, 2, 3, a]]))[0][0, -1].double().softmax(-1)
            for b in range(V):
                third = model(torch.tensor([[1, 2, 3, a, b]]))[0][0, -1].double().softmax(-1)
                expected[b] += first[a] * second[b] * third
    statistic = sum(
        (counts[a, b] - n_draws * expected[a, b].item()) ** 2 / (n_draws * expected[a, b].item())
        for a in range(V)
        for b in range(V)
    )
    degrees = V * V - 1
    assert statistic < degrees + 4 * math.sqrt(2 * degrees)
    # The negative control: the draft alone is told apart at once.
    with torch.no_grad():
        theirs = draft(torch.tensor([[1, 2, 3]]))[0][0, -1].double().softmax(-1)
    assert (theirs - first).abs().max() > 0.05


def test_it_never_writes_more_than_it_was_asked_for() -> None:
    for length in range(1, 9):
        assert len(run("plain", own, length, n_ahead=4)[0]) == length


def test_models_of_two_vocabularies_are_refused() -> None:
    model, _ = pair("plain")
    other = gptzoo.build(small(vocab_size=V + 1))
    with pytest.raises(InputError, match="the draft model has 8 token ids and the model 7"):
        next(speculate(model, other, [1], own, max_new_tokens=3, generator=torch.Generator()))


def sampling(**fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate({"max_new_tokens": 12, **fields})


@pytest.mark.parametrize("kind", KINDS)
def test_a_spec_is_kept_as_the_large_model_alone_keeps_it(kind: str) -> None:
    model, draft = pair(kind)
    how = {
        "processors": [
            {"type": "banned_tokens", "ids": [2]},
            {"type": "repetition_penalty", "value": 1.5},
            {"type": "temperature", "value": 0},
        ]
    }
    free = gptzoo.generate(model, [[1, 2, 3]], sampling(**how))[0]
    for extra in ({}, {"stop_tokens": [free[5]]}):
        expected = gptzoo.generate(model, [[1, 2, 3]], sampling(**how, **extra))[0]
        found = list(speculative_stream(model, draft, [1, 2, 3], sampling(**how, **extra)))
        assert [choice.token for choice in found if choice.end != "stop_token"] == expected
        assert found[-1].end == ("stop_token" if extra else "length")
        assert {choice.end for choice in found[:-1]} <= {None}


def test_log_probabilities_are_those_of_the_large_model() -> None:
    model, draft = pair("plain")
    found = list(speculative_stream(model, draft, [1, 2, 3], sampling(seed=4)))
    (expected,) = score(model, [[1, 2, 3, *(choice.token for choice in found)]])
    assert [choice.log_probability for choice in found] == pytest.approx(expected[2:].tolist(), abs=1e-4)


def test_each_sample_has_a_random_stream_of_its_own() -> None:
    model, draft = pair("plain")
    texts = [
        tuple(choice.token for choice in speculative_stream(model, draft, [1], sampling(), number=number))
        for number in (0, 0, 1, 2)
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3
