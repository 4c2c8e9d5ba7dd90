"""Speculation changes how fast texts are written, and nothing of what is likely."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from support import loud, plain_types, small
from torch import Tensor

import gptzoo
from gptzoo.errors import InputError
from gptzoo.sampling.engine import engine as engine_module
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.request import Event, Request
from gptzoo.sampling.score import score

V = 7
GREEDY: dict[str, Any] = {"type": "temperature", "value": 0}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"positional": "rope"},
    "ring": {"attention": {"type": "sdpa", "window": 4}, "positional": "rope"},  # cannot be rolled back
    "naive": {"attention": "naive", "positional": "sinusoidal"},
}
PROMPTS = [[1, 2, 3], [4], [5, 6, 0, 1, 2, 3, 4, 5, 6], [2, 2], [1, 2, 3]]


def pair(kind: str = "plain") -> tuple[gptzoo.Architecture, gptzoo.Architecture]:
    """A model, and a smaller one that is often of its opinion but not always."""
    model = loud(gptzoo.build(small(vocab_size=V, **KINDS[kind]), seed=3)).eval()
    draft = loud(gptzoo.build(small(vocab_size=V, n_layers=1, d_model=16, n_heads=2, **KINDS[kind]), seed=5)).eval()
    return model, draft


def sampling(**fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate({"max_new_tokens": 12, **fields})


def run(engine: Engine) -> dict[tuple[Any, int], list[Event]]:
    """The events of each (request, sample)."""
    told: dict[tuple[Any, int], list[Event]] = defaultdict(list)
    while engine.busy:
        for event in engine.step():
            told[event.request, event.sample].append(event)
    return dict(told)


def tokens_of(events: Sequence[Event]) -> list[int]:
    return [event.choice.token for event in events if event.choice is not None]


def passes(model: gptzoo.Architecture) -> list[int]:
    """Fills up with how many columns each forward of the model has."""
    counted: list[int] = []
    model.register_forward_pre_hook(lambda module, arguments: counted.append(arguments[0].shape[1]))
    return counted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_ahead", [1, 3, 8])
def test_greedy_gives_the_tokens_of_the_large_model_alone(kind: str, n_ahead: int) -> None:
    model, draft = pair(kind)
    spec = sampling(processors=[GREEDY])
    expected = gptzoo.generate(model, PROMPTS, spec)
    assert gptzoo.generate(model, PROMPTS, spec, draft=draft, n_ahead=n_ahead) == expected


@pytest.mark.parametrize("positional", plain_types("positional"))
@pytest.mark.parametrize("attention", plain_types("attention"))
def test_any_attention_can_be_the_draft_of_any_other(attention: str, positional: str) -> None:
    """Also of one that was written with other positions."""
    try:
        parts = gptzoo.load_model_spec(small(vocab_size=V, attention=attention, positional=positional))
    except gptzoo.SpecError as error:
        pytest.skip(str(error))
    one, other = loud(gptzoo.build(parts, seed=3)).eval(), pair("ring")[0]
    spec = sampling(processors=[GREEDY], max_new_tokens=6)
    for model, draft in ((one, other), (other, one)):
        expected = gptzoo.generate(model, PROMPTS, spec)
        assert gptzoo.generate(model, PROMPTS, spec, draft=draft) == expected


@pytest.mark.parametrize("kind", ["plain", "ring"])
def test_a_draft_that_is_the_model_itself_is_always_right(kind: str) -> None:
    model, _ = pair(kind)
    counted = passes(model)
    engine = Engine(model, n_rows=1, max_length=16, draft=pair(kind)[0])
    engine.submit(Request([1], sampling(max_new_tokens=13), n_ahead=3))
    run(engine)
    assert counted == [1, 4, 4, 4]  # the prompt and its first token; then twelve tokens in three passes


def chi_squared(found: Counter[tuple[int, ...]], expected: Tensor, n_draws: int) -> float:
    """Over pairs of tokens, in standard deviations from what is to be expected."""
    possible = expected > 0
    assert all(possible[pair] for pair in found)
    counts = torch.zeros(V, V, dtype=torch.float64)
    for pair, n in found.items():
        counts[pair] = n
    statistic = ((counts - n_draws * expected)[possible] ** 2 / (n_draws * expected[possible])).sum()
    degrees = int(possible.sum()) - 1
    return (float(statistic) - degrees) / math.sqrt(2 * degrees)


def left_of(logits: Tensor, chain: str) -> Tensor:
    """What a chain of processors leaves of logits (V,), spelled out."""
    if chain == "top 4 at 0.7":
        logits = torch.where(logits >= logits.sort().values[-4], logits / 0.7, float("-inf"))
    return logits.double().softmax(-1)


def drawn(kind: str, chain: str, n_draws: int) -> float:
    """How far the texts are from what the large model alone would write: of three new tokens the last two."""
    model, draft = pair(kind)
    processors = [] if chain == "none" else [{"type": "top_k", "k": 4}, {"type": "temperature", "value": 0.7}]
    spec = sampling(max_new_tokens=3, processors=processors)
    rows = gptzoo.generate(model, [[1, 2, 3]] * n_draws, spec, draft=draft, n_ahead=2)
    expected = torch.zeros(V, V, dtype=torch.float64)
    with torch.no_grad():
        first = left_of(model(torch.tensor([[1, 2, 3]]))[0][0, -1], chain)
        for a in range(V):
            second = left_of(model(torch.tensor([[1, 2, 3, a]]))[0][0, -1], chain)
            for b in range(V):
                third = left_of(model(torch.tensor([[1, 2, 3, a, b]]))[0][0, -1], chain)
                expected[b] += first[a] * second[b] * third
    return chi_squared(Counter((row[1], row[2]) for row in rows), expected, n_draws)


@pytest.mark.parametrize("kind", ["plain", "ring"])
@pytest.mark.parametrize("chain", ["none", "top 4 at 0.7"])
def test_the_distribution_of_texts_is_exactly_that_of_the_large_model(kind: str, chain: str) -> None:
    assert drawn(kind, chain, 4000) < 4


def test_a_verification_that_accepts_all_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def accepting(left: Tensor, proposals: Any, generators: Any) -> list[int]:
        tokens = verified(left, proposals, generators)
        return [token if p is None else p.token for token, p in zip(tokens, proposals, strict=True)]

    verified = engine_module.verified
    monkeypatch.setattr(engine_module, "verified", accepting)
    assert drawn("plain", "none", 4000) > 20


MIXED = [
    Request([1, 2, 3], sampling(processors=[GREEDY], max_new_tokens=9), id="greedy", n_ahead=3),
    Request([4], sampling(max_new_tokens=5, seed=4), id="short", n_samples=3, n_ahead=4),
    Request([5, 6, 0, 1, 2, 3], sampling(max_new_tokens=6, seed=5), id="without"),
    Request([4, 5], sampling(max_new_tokens=7, processors=[{"type": "top_k", "k": 3}], seed=6), id="k", n_ahead=2),
    Request([1, 2, 3], sampling(max_new_tokens=5, seed=7), id="same prompt", first_sample=3, n_samples=2),
    Request([3], sampling(max_new_tokens=1, seed=8), id="one", n_ahead=4),
]


@pytest.mark.parametrize("n_rows", [1, 2, 3, 16])
@pytest.mark.parametrize("kind", ["plain", "ring"])
def test_what_a_request_gets_does_not_depend_on_what_runs_beside_it(kind: str, n_rows: int) -> None:
    model, draft = pair(kind)
    engine = Engine(model, n_rows=n_rows, max_length=20, draft=draft)
    for request in MIXED:
        engine.submit(request)
    found = run(engine)
    for request in MIXED:
        for sample in range(request.n_samples):
            own = {"first_sample": request.first_sample + sample, "n_ahead": request.n_ahead}
            alone = Engine(model, n_rows=1, max_length=20, draft=draft)
            alone.submit(Request(request.tokens, request.spec, id=0, **own))
            assert tokens_of(found[request.id, sample]) == tokens_of(run(alone)[0, 0])


def test_a_request_without_a_draft_gets_what_an_engine_without_one_writes() -> None:
    model, draft = pair()
    spec = sampling(seed=3)
    engine = Engine(model, n_rows=2, max_length=20, draft=draft)
    engine.submit(Request([1, 2], spec, id="plain"))
    engine.submit(Request([5], spec, id="ahead", n_ahead=3))
    (expected,) = gptzoo.generate(model, [[1, 2]], spec)
    assert tokens_of(run(engine)["plain", 0]) == expected


def test_a_row_goes_to_the_next_text_in_the_step_in_which_it_became_free() -> None:
    model, _ = pair()
    engine = Engine(model, n_rows=2, max_length=20, draft=model)
    for number, length in enumerate((5, 9, 3)):
        engine.submit(Request([1 + number], sampling(max_new_tokens=length), id=number, n_ahead=3))
    steps = [Counter(event.request for event in engine.step()) for _ in range(3)]
    assert steps == [{0: 1, 1: 1}, {0: 4, 1: 4, 2: 1}, {1: 4, 2: 2}]
    assert not engine.busy


def test_a_request_that_is_cancelled_leaves_the_others_as_they_are() -> None:
    model, draft = pair()
    spec = sampling(processors=[GREEDY])
    engine = Engine(model, n_rows=3, max_length=20, draft=draft)
    for number in range(4):
        engine.submit(Request([1 + number], spec, id=number, n_ahead=3))
    told = {event.request: [event] for event in engine.step()}
    assert engine.cancel(0)
    for (number, _), events in run(engine).items():
        told[number] = [*told.get(number, []), *events]
    assert [tokens_of(told[n]) for n in (1, 2, 3)] == gptzoo.generate(model, [[2], [3], [4]], spec)


@pytest.mark.parametrize("kind", KINDS)
def test_a_spec_is_kept_as_the_large_model_alone_keeps_it(kind: str) -> None:
    model, draft = pair(kind)
    how = {
        "processors": [
            {"type": "banned_tokens", "ids": [2]},
            {"type": "repetition_penalty", "value": 1.5},
            GREEDY,
        ]
    }
    free = gptzoo.generate(model, [[1, 2, 3]], sampling(**how))[0]
    for extra in ({}, {"stop_tokens": [free[5]]}):
        expected = gptzoo.generate(model, [[1, 2, 3]], sampling(**how, **extra))[0]
        found = [choice for (choice,) in gptzoo.stream(model, [[1, 2, 3]], sampling(**how, **extra), draft=draft)]
        assert [choice.token for choice in found if choice and choice.end != "stop_token"] == expected
        assert [choice.end for choice in found if choice] == [
            *[None] * (len(found) - 1),
            "stop_token" if extra else "length",
        ]


def test_it_never_writes_more_than_it_was_asked_for() -> None:
    model, draft = pair()
    for length in range(1, 9):
        (row,) = gptzoo.generate(model, [[1, 2]], sampling(max_new_tokens=length), draft=draft)
        assert len(row) == length


def test_it_writes_up_to_where_learned_positions_end() -> None:
    learned = [gptzoo.build(small(vocab_size=V, positional="learned"), seed=seed).eval() for seed in (3, 4)]
    rows = gptzoo.generate(learned[0], [[1] * 4], sampling(max_new_tokens=12), draft=learned[1], n_ahead=8)
    assert [len(row) for row in rows] == [12]


def test_log_probabilities_are_those_of_the_large_model() -> None:
    model, draft = pair()
    found = [choice for (choice,) in gptzoo.stream(model, [[1, 2, 3]], sampling(seed=4), draft=draft) if choice]
    (expected,) = score(model, [[1, 2, 3, *(choice.token for choice in found)]])
    assert [choice.log_probability for choice in found] == pytest.approx(expected[2:].tolist(), abs=1e-4)


def test_a_stream_gives_the_tokens_of_a_row_one_by_one() -> None:
    model, draft = pair()
    spec = sampling(seed=2)
    rows: list[list[int]] = [[] for _ in PROMPTS]
    for chosen in gptzoo.stream(model, PROMPTS, spec, draft=draft, n_ahead=3):
        for row, choice in zip(rows, chosen, strict=True):
            row += [] if choice is None else [choice.token]
    assert rows == gptzoo.generate(model, PROMPTS, spec, draft=draft, n_ahead=3)
    assert rows[0] != rows[4]  # of one prompt, each from a random stream of its own


def test_what_cannot_speculate_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    model, draft = pair()
    with pytest.raises(InputError, match="the draft model has 8 token ids and the model 7"):
        Engine(model, draft=gptzoo.build(small(vocab_size=V + 1)))
    with pytest.raises(InputError, match="no draft model to propose tokens"):
        Engine(model).submit(Request([1], sampling(), n_ahead=2))
    short = gptzoo.build(small(vocab_size=V, positional="learned"))
    with pytest.raises(InputError, match=r"the draft model cannot take part: .* ask for at most 14 new tokens"):
        gptzoo.generate(model, [[1, 2]], sampling(max_new_tokens=15), draft=short)
    attention = model.spec.per_layer("attention")[0].component
    monkeypatch.setattr(attention, "supports", attention.supports - {"padding"})
    with pytest.raises(InputError, match=r"attention 'sdpa' does not honour padding.*give it one row"):
        gptzoo.generate(model, [[1], [2]], sampling(), draft=draft)
    spec = sampling(processors=[GREEDY])
    assert gptzoo.generate(model, [[1]], spec, draft=draft) == gptzoo.generate(model, [[1]], spec)


def test_a_constraint_that_the_draft_cannot_keep_is_left_to_the_large_model() -> None:
    """Of what is forced, nothing else may be left: the draft alone would run into it, the model does not get there."""
    model, draft = pair()
    chain = [{"type": "forced_tokens", "ids": [3, 4]}, {"type": "banned_tokens", "ids": [0, 1]}, GREEDY]
    expected = gptzoo.generate(model, PROMPTS, sampling(processors=chain))
    assert gptzoo.generate(model, PROMPTS, sampling(processors=chain), draft=draft) == expected
    impossible = [{"type": "forced_tokens", "ids": [3, 4]}, {"type": "banned_tokens", "ids": [4]}, GREEDY]
    engine = Engine(model, n_rows=2, max_length=20, draft=draft)
    engine.submit(Request([1], sampling(processors=impossible), id="bad", n_ahead=3))
    engine.submit(Request([1], sampling(processors=[GREEDY]), id="good", n_ahead=3))
    told = run(engine)
    assert [type(event.error) for event in told["bad", 0]] == [type(None), InputError]
    assert tokens_of(told["good", 0]) == gptzoo.generate(model, [[1]], sampling(processors=[GREEDY]))[0]
