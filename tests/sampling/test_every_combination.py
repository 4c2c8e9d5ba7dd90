"""All decoding strategies with all installed components."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support import small, types_with_defaults, with_large_weights

import gptzoo
from gptzoo import registry
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.request import Request
from gptzoo.sampling.search.beam import beam_search
from gptzoo.sampling.search.contrastive import contrastive_search
from gptzoo.testing.properties.decoding.engine import check_continuous_batching

PROMPTS = [([1, 2, 3, 4], 5), ([5, 6], 7), ([7, 1], 3), ([2, 4, 6, 8, 10, 12], 1)]  # ids, number of new tokens
INSTALLED = registry.discover(selection="")  # regardless of GPTZOO_PLUGINS


def names(kind: str) -> list[str]:
    with registry.use(INSTALLED):
        return types_with_defaults(kind)


@pytest.fixture(autouse=True)
def _everything_installed() -> Iterator[None]:
    with registry.use(INSTALLED):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("attention", names("attention"))
def test_every_strategy_works_with_every_valid_combination(attention: str) -> None:
    draft = with_large_weights(gptzoo.build(small(n_layers=1, positional="rope"), seed=2)).eval().double()
    n_valid = 0
    for positional in names("positional"):
        try:
            model = (
                with_large_weights(gptzoo.build(small(attention=attention, positional=positional), seed=1))
                .eval()
                .double()
            )
        except gptzoo.SpecError:
            continue
        check_continuous_batching(model, draft, PROMPTS)  # the draft model has the built-in attention
        check_that_searches_can_be_greedy(model)
        n_valid += 1
    assert n_valid


@pytest.mark.slow
@pytest.mark.parametrize("architecture", names("architecture"))
def test_every_strategy_works_with_every_architecture(architecture: str) -> None:
    model, draft = (
        with_large_weights(gptzoo.build(small(architecture=architecture), seed=s)).eval().double() for s in (1, 2)
    )
    check_continuous_batching(model, draft, PROMPTS)
    check_that_searches_can_be_greedy(model)


@pytest.mark.slow
@pytest.mark.parametrize("attention", names("attention"))
def test_a_decode_step_that_fails_once_changes_no_token(attention: str) -> None:
    model = with_large_weights(gptzoo.build(small(attention=attention, positional="rope"), seed=1)).eval().double()
    requests = [
        Request([1, 2, 3], gptzoo.SamplingSpec(max_new_tokens=7, seed=2), id="a", n_samples=2),
        Request([4, 5], gptzoo.SamplingSpec(max_new_tokens=7, seed=3), id="b"),
    ]
    expected = tokens_of(model, requests)
    calls = iter(range(1000))

    def fail_once(module: Any, arguments: Any) -> None:
        if next(calls) == 4:
            raise MemoryError("no memory now")

    model.register_forward_pre_hook(fail_once)
    assert tokens_of(model, requests) == expected
    assert next(calls) > 4


def tokens_of(model: gptzoo.Architecture, requests: list[Request]) -> dict[Any, list[int]]:
    engine = Engine(model, n_slots=3, max_length=16)
    for request in requests:
        engine.submit(request)
    tokens: dict[Any, list[int]] = {}
    while engine.busy:
        for event in engine.step():
            assert event.error is None
            assert event.token is not None
            tokens.setdefault((event.request_id, event.sample), []).append(event.token)
    return tokens


def check_that_searches_can_be_greedy(model: gptzoo.Architecture) -> None:
    prompt, spec = [3, 1, 4, 1, 5], gptzoo.SamplingSpec(max_new_tokens=6)
    greedy = gptzoo.SamplingSpec.model_validate(
        {"max_new_tokens": 6, "processors": [{"type": "temperature", "value": 0}]}
    )
    (expected,) = gptzoo.generate(model, [prompt], greedy)
    assert [*beam_search(model, prompt, spec, n_beams=1)[0].tokens] == expected
    events = contrastive_search(model, prompt, spec, alpha=0.0, n_candidates=3)
    assert [event.token for event in events] == expected
