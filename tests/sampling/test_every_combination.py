"""Over all that is installed: every way to write works, and a text does not depend on what is written beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import loud, plain_types, small

import gptzoo
from gptzoo import registry
from gptzoo.sampling.search.beam import beam_search
from gptzoo.sampling.search.contrastive import contrastive_search
from gptzoo.testing.properties.decoding.engine import check_continuous_batching

INSTALLED = registry.discover(selection="")  # whatever GPTZOO_PLUGINS says


def names(kind: str) -> list[str]:
    with registry.use(INSTALLED):
        return plain_types(kind)


@pytest.fixture(autouse=True)
def _everything_installed() -> Iterator[None]:
    with registry.use(INSTALLED):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("attention", names("attention"))
def test_every_way_to_write_works_on_what_the_rules_allow(attention: str) -> None:
    """Batched is alone, streamed is in one forward, and what should be greedy text is."""
    draft = loud(gptzoo.build(small(n_layers=1, positional="rope"), seed=2)).eval().double()
    allowed = 0
    for positional in names("positional"):
        try:
            model = loud(gptzoo.build(small(attention=attention, positional=positional), seed=1)).eval().double()
        except gptzoo.SpecError:
            continue
        check_continuous_batching(model, draft)  # drafted for by a model of the built-in attention
        searches_are_greedy_where_they_have_no_choice(model)
        allowed += 1
    assert allowed


@pytest.mark.slow
@pytest.mark.parametrize("architecture", names("architecture"))
def test_every_way_to_write_works_on_every_architecture(architecture: str) -> None:
    model, draft = (loud(gptzoo.build(small(architecture=architecture), seed=s)).eval().double() for s in (1, 2))
    check_continuous_batching(model, draft)
    searches_are_greedy_where_they_have_no_choice(model)


def searches_are_greedy_where_they_have_no_choice(model: gptzoo.Architecture) -> None:
    prompt, spec = [3, 1, 4, 1, 5], gptzoo.SamplingSpec(max_new_tokens=6)
    greedy = gptzoo.SamplingSpec.model_validate(
        {"max_new_tokens": 6, "processors": [{"type": "temperature", "value": 0}]}
    )
    (expected,) = gptzoo.generate(model, [prompt], greedy)
    assert [*beam_search(model, prompt, spec, n_beams=1)[0].tokens] == expected
    found = contrastive_search(model, prompt, spec, alpha=0.0, n_candidates=3)
    assert [choice.token for choice in found] == expected
