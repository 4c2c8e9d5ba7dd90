"""Speculative decoding: the distribution of texts is that of the target model alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from support import small, types_with_defaults, with_large_weights
from torch import Tensor

import gptzoo
from gptzoo.errors import InputError
from gptzoo.sampling.engine import next_tokens as next_tokens_module
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.request import Request
from gptzoo.sampling.score import score

V = 7
GREEDY: dict[str, Any] = {"type": "temperature", "value": 0}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"positional": "rope"},
    "ring": {"attention": {"type": "sdpa", "window": 4}, "positional": "rope"},  # does not support rollback
    "naive": {"attention": "naive", "positional": "sinusoidal"},
}
PROMPTS = [[1, 2, 3], [4], [5, 6, 0, 1, 2, 3, 4, 5, 6], [2, 2], [1, 2, 3]]


def pair(kind: str = "plain") -> tuple[gptzoo.Architecture, gptzoo.Architecture]:
    """Build a target model and a draft model that often agrees with it, but not always."""
    model = with_large_weights(gptzoo.build(small(vocab_size=V, **KINDS[kind]), seed=3)).eval()
    draft = with_large_weights(
        gptzoo.build(small(vocab_size=V, n_layers=1, d_model=16, n_heads=2, **KINDS[kind]), seed=5)
    ).eval()
    return model, draft


def sampling(**fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate({"max_new_tokens": 12, **fields})


def run(engine: Engine) -> dict[tuple[Any, int], list[TokenEvent]]:
    """Run the engine to the end and return the events of each (request id, sample)."""
    events: dict[tuple[Any, int], list[TokenEvent]] = defaultdict(list)
    while engine.busy:
        for event in engine.step():
            events[event.request_id, event.sample].append(event)
    return dict(events)


def tokens_of(events: Sequence[TokenEvent]) -> list[int]:
    return [event.token for event in events if event.token is not None]


def record_forward_lengths(model: gptzoo.Architecture) -> list[int]:
    """Return a list that receives the sequence length of each forward pass of the model."""
    lengths: list[int] = []
    model.register_forward_pre_hook(lambda module, arguments: lengths.append(arguments[0].shape[1]))
    return lengths


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_draft_tokens", [1, 3, 8])
def test_greedy_tokens_are_those_of_the_target_model_alone(kind: str, n_draft_tokens: int) -> None:
    model, draft = pair(kind)
    spec = sampling(processors=[GREEDY])
    expected = gptzoo.generate(model, PROMPTS, spec)
    assert gptzoo.generate(model, PROMPTS, spec, draft=draft, n_draft_tokens=n_draft_tokens) == expected


@pytest.mark.parametrize("positional", types_with_defaults("positional"))
@pytest.mark.parametrize("attention", types_with_defaults("attention"))
def test_any_attention_can_be_the_draft_of_any_other(attention: str, positional: str) -> None:
    """The positional embeddings of the two models may differ."""
    try:
        parts = gptzoo.load_model_spec(small(vocab_size=V, attention=attention, positional=positional))
    except gptzoo.SpecError as error:
        pytest.skip(str(error))
    one, other = with_large_weights(gptzoo.build(parts, seed=3)).eval(), pair("ring")[0]
    spec = sampling(processors=[GREEDY], max_new_tokens=6)
    for model, draft in ((one, other), (other, one)):
        expected = gptzoo.generate(model, PROMPTS, spec)
        assert gptzoo.generate(model, PROMPTS, spec, draft=draft) == expected


@pytest.mark.parametrize("kind", ["plain", "ring"])
def test_every_token_of_a_draft_equal_to_the_target_is_accepted(kind: str) -> None:
    model, _ = pair(kind)
    lengths = record_forward_lengths(model)
    engine = Engine(model, n_slots=1, max_length=16, draft=pair(kind)[0])
    engine.submit(Request([1], sampling(max_new_tokens=13), n_draft_tokens=3))
    run(engine)
    assert lengths == [1, 4, 4, 4]  # the prefill gives one token, and three decode steps give twelve


def chi_squared(observed: Counter[tuple[int, ...]], expected: Tensor, n_draws: int) -> float:
    """Return the chi-squared statistic over pairs of tokens, in standard deviations from its mean."""
    possible = expected > 0
    assert all(possible[pair] for pair in observed)
    counts = torch.zeros(V, V, dtype=torch.float64)
    for pair, n in observed.items():
        counts[pair] = n
    statistic = ((counts - n_draws * expected)[possible] ** 2 / (n_draws * expected[possible])).sum()
    degrees = int(possible.sum()) - 1
    return (float(statistic) - degrees) / math.sqrt(2 * degrees)


def processed_distribution(logits: Tensor, chain: str) -> Tensor:
    """Compute the distribution that a chain of processors makes of logits (V,), in plain torch."""
    if chain == "top 4 at 0.7":
        logits = torch.where(logits >= logits.sort().values[-4], logits / 0.7, float("-inf"))
    return logits.double().softmax(-1)


def chi_squared_of_samples(kind: str, chain: str, n_draws: int) -> float:
    """Compare the last two of three generated tokens with the exact distribution of the target model."""
    model, draft = pair(kind)
    processors = [] if chain == "none" else [{"type": "top_k", "k": 4}, {"type": "temperature", "value": 0.7}]
    spec = sampling(max_new_tokens=3, processors=processors)
    rows = gptzoo.generate(model, [[1, 2, 3]] * n_draws, spec, draft=draft, n_draft_tokens=2)
    expected = torch.zeros(V, V, dtype=torch.float64)
    with torch.no_grad():
        first = processed_distribution(model(torch.tensor([[1, 2, 3]]))[0][0, -1], chain)
        for a in range(V):
            second = processed_distribution(model(torch.tensor([[1, 2, 3, a]]))[0][0, -1], chain)
            for b in range(V):
                third = processed_distribution(model(torch.tensor([[1, 2, 3, a, b]]))[0][0, -1], chain)
                expected[b] += first[a] * second[b] * third
    return chi_squared(Counter((row[1], row[2]) for row in rows), expected, n_draws)


@pytest.mark.parametrize("kind", ["plain", "ring"])
@pytest.mark.parametrize("chain", ["none", "top 4 at 0.7"])
def test_the_distribution_of_texts_is_exactly_that_of_the_target_model(kind: str, chain: str) -> None:
    assert chi_squared_of_samples(kind, chain, 4000) < 4


def test_the_test_above_detects_a_verification_that_accepts_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    def accept_all(logits: Tensor, proposals: Any, generators: Any) -> list[int]:
        tokens = accept_or_resample(logits, proposals, generators)
        return [token if p is None else p.token for token, p in zip(tokens, proposals, strict=True)]

    accept_or_resample = next_tokens_module.accept_or_resample
    monkeypatch.setattr(next_tokens_module, "accept_or_resample", accept_all)
    assert chi_squared_of_samples("plain", "none", 4000) > 20


MIXED = [
    Request([1, 2, 3], sampling(processors=[GREEDY], max_new_tokens=9), id="greedy", n_draft_tokens=3),
    Request([4], sampling(max_new_tokens=5, seed=4), id="short", n_samples=3, n_draft_tokens=4),
    Request([5, 6, 0, 1, 2, 3], sampling(max_new_tokens=6, seed=5), id="without"),
    Request(
        [4, 5], sampling(max_new_tokens=7, processors=[{"type": "top_k", "k": 3}], seed=6), id="k", n_draft_tokens=2
    ),
    Request([1, 2, 3], sampling(max_new_tokens=5, seed=7), id="same prompt", first_sample=3, n_samples=2),
    Request([3], sampling(max_new_tokens=1, seed=8), id="one", n_draft_tokens=4),
]


@pytest.mark.parametrize("n_slots", [1, 2, 3, 16])
@pytest.mark.parametrize("kind", ["plain", "ring"])
def test_the_tokens_of_a_request_do_not_depend_on_other_requests(kind: str, n_slots: int) -> None:
    model, draft = pair(kind)
    engine = Engine(model, n_slots=n_slots, max_length=20, draft=draft)
    for request in MIXED:
        engine.submit(request)
    events = run(engine)
    for request in MIXED:
        for sample in range(request.n_samples):
            alone = Engine(model, n_slots=1, max_length=20, draft=draft)
            first_sample = request.first_sample + sample
            alone.submit(
                Request(
                    request.prompt_ids,
                    request.spec,
                    id=0,
                    first_sample=first_sample,
                    n_draft_tokens=request.n_draft_tokens,
                )
            )
            assert tokens_of(events[request.id, sample]) == tokens_of(run(alone)[0, 0])


def test_a_request_without_draft_tokens_gets_the_text_of_an_engine_without_draft_model() -> None:
    model, draft = pair()
    spec = sampling(seed=3)
    engine = Engine(model, n_slots=2, max_length=20, draft=draft)
    engine.submit(Request([1, 2], spec, id="plain"))
    engine.submit(Request([5], spec, id="ahead", n_draft_tokens=3))
    (expected,) = gptzoo.generate(model, [[1, 2]], spec)
    assert tokens_of(run(engine)["plain", 0]) == expected


def test_a_slot_is_refilled_in_the_step_in_which_it_became_free() -> None:
    model, _ = pair()
    engine = Engine(model, n_slots=2, max_length=20, draft=model)
    for number, length in enumerate((5, 9, 3)):
        engine.submit(Request([1 + number], sampling(max_new_tokens=length), id=number, n_draft_tokens=3))
    steps = [Counter(event.request_id for event in engine.step()) for _ in range(3)]
    assert steps == [{0: 1, 1: 1}, {0: 4, 1: 4, 2: 1}, {1: 4, 2: 2}]
    assert not engine.busy


def test_cancelling_a_request_does_not_change_the_others() -> None:
    model, draft = pair()
    spec = sampling(processors=[GREEDY])
    engine = Engine(model, n_slots=3, max_length=20, draft=draft)
    for number in range(4):
        engine.submit(Request([1 + number], spec, id=number, n_draft_tokens=3))
    events = {event.request_id: [event] for event in engine.step()}
    assert engine.cancel(0)
    for (number, _), more in run(engine).items():
        events[number] = [*events.get(number, []), *more]
    assert [tokens_of(events[n]) for n in (1, 2, 3)] == gptzoo.generate(model, [[2], [3], [4]], spec)


@pytest.mark.parametrize("kind", KINDS)
def test_processors_and_stop_tokens_work_as_with_the_target_model_alone(kind: str) -> None:
    model, draft = pair(kind)
    options = {
        "processors": [
            {"type": "banned_tokens", "ids": [2]},
            {"type": "repetition_penalty", "value": 1.5},
            GREEDY,
        ]
    }
    free = gptzoo.generate(model, [[1, 2, 3]], sampling(**options))[0]
    for extra in ({}, {"stop_tokens": [free[5]]}):
        expected = gptzoo.generate(model, [[1, 2, 3]], sampling(**options, **extra))[0]
        steps = gptzoo.stream(model, [[1, 2, 3]], sampling(**options, **extra), draft=draft)
        events = [event for (event,) in steps if event]
        assert [event.token for event in events if event.finish_reason != "stop_token"] == expected
        last_reason = "stop_token" if extra else "length"
        assert [event.finish_reason for event in events] == [*[None] * (len(events) - 1), last_reason]


def test_it_generates_exactly_the_requested_number_of_tokens() -> None:
    model, draft = pair()
    for length in range(1, 9):
        (row,) = gptzoo.generate(model, [[1, 2]], sampling(max_new_tokens=length), draft=draft)
        assert len(row) == length


def test_it_generates_up_to_the_last_learned_position() -> None:
    learned = [gptzoo.build(small(vocab_size=V, positional="learned"), seed=seed).eval() for seed in (3, 4)]
    rows = gptzoo.generate(learned[0], [[1] * 4], sampling(max_new_tokens=12), draft=learned[1], n_draft_tokens=8)
    assert [len(row) for row in rows] == [12]


def test_log_probabilities_are_those_of_the_target_model() -> None:
    model, draft = pair()
    events = [event for (event,) in gptzoo.stream(model, [[1, 2, 3]], sampling(seed=4), draft=draft) if event]
    (expected,) = score(model, [[1, 2, 3, *tokens_of(events)]])
    assert [event.log_probability for event in events] == pytest.approx(expected[2:].tolist(), abs=1e-4)


def test_a_stream_yields_one_token_at_a_time() -> None:
    model, draft = pair()
    spec = sampling(seed=2)
    rows: list[list[int]] = [[] for _ in PROMPTS]
    for events in gptzoo.stream(model, PROMPTS, spec, draft=draft, n_draft_tokens=3):
        for row, event in zip(rows, events, strict=True):
            row += [] if event is None else [event.token]
    assert rows == gptzoo.generate(model, PROMPTS, spec, draft=draft, n_draft_tokens=3)
    assert rows[0] != rows[4]  # the same prompt, but each sample has its own random stream


def test_models_that_do_not_fit_are_rejected_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    model, draft = pair()
    with pytest.raises(InputError, match="the draft model has 8 token ids and the target model has 7"):
        Engine(model, draft=gptzoo.build(small(vocab_size=V + 1)))
    with pytest.raises(InputError, match="needs a draft model"):
        Engine(model).submit(Request([1], sampling(), n_draft_tokens=2))
    short = gptzoo.build(small(vocab_size=V, positional="learned"))
    with pytest.raises(InputError, match=r"the draft model cannot be used: .* Ask for at most 14 new tokens"):
        gptzoo.generate(model, [[1, 2]], sampling(max_new_tokens=15), draft=short)
    attention = model.spec.per_layer("attention")[0].component
    monkeypatch.setattr(attention, "supports", attention.supports - {"padding"})
    with pytest.raises(InputError, match=r"attention 'sdpa' does not support padding.*Use one slot"):
        gptzoo.generate(model, [[1], [2]], sampling(), draft=draft)
    spec = sampling(processors=[GREEDY])
    assert gptzoo.generate(model, [[1]], spec, draft=draft) == gptzoo.generate(model, [[1]], spec)


def test_a_constraint_that_fails_in_the_draft_is_left_to_the_target_model() -> None:
    """A draft token may violate a later constraint, although the text of the target model never gets there."""
    model, draft = pair()
    chain = [{"type": "forced_tokens", "ids": [3, 4]}, {"type": "banned_tokens", "ids": [0, 1]}, GREEDY]
    expected = gptzoo.generate(model, PROMPTS, sampling(processors=chain))
    assert gptzoo.generate(model, PROMPTS, sampling(processors=chain), draft=draft) == expected
    impossible = [{"type": "forced_tokens", "ids": [3, 4]}, {"type": "banned_tokens", "ids": [4]}, GREEDY]
    engine = Engine(model, n_slots=2, max_length=20, draft=draft)
    engine.submit(Request([1], sampling(processors=impossible), id="bad", n_draft_tokens=3))
    engine.submit(Request([1], sampling(processors=[GREEDY]), id="good", n_draft_tokens=3))
    events = run(engine)
    assert [type(event.error) for event in events["bad", 0]] == [type(None), InputError]
    assert tokens_of(events["good", 0]) == gptzoo.generate(model, [[1]], sampling(processors=[GREEDY]))[0]
