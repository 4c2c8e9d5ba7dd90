"""The search beyond toy sizes finds a fault wherever it begins, and reports the smallest case."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from pydantic import PositiveInt
from torch import Tensor

import gptzoo
import gptzoo.testing
from gptzoo.components.attention import NaiveAttention
from gptzoo.testing.at_size.case import Case, simpler_cases
from gptzoo.testing.at_size.effort import QUICK, SAMPLE, SLOW
from gptzoo.testing.at_size.plan import Sizes, planned_cases
from gptzoo.testing.at_size.trial import Trial
from gptzoo.testing.component_under_test import ModelPartUnderTest


class LeaksFromLength(gptzoo.FeedForward):
    """Adds the last token to the first one in rows of 50 tokens or more."""

    name = "leaks_from_length"

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: Any = None) -> Tensor:
        return torch.cat([x[:, :1] + (x.shape[1] >= 50) * x[:, -1:], x[:, 1:]], dim=1)


class LeaksFromWidth(gptzoo.FeedForward):
    """Adds the next token if an option is above 20 and another one is on."""

    name = "leaks_from_width"

    class Config(gptzoo.FeedForward.Config):
        width: PositiveInt = 4
        wide: bool = False
        unrelated: float = 0.5

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: Any = None) -> Tensor:
        return x + x.roll(-1, 1) if self.config.width > 20 and self.config.wide else x


class RefusesLongContext(NaiveAttention):
    """Refuses a context of more than 40 tokens when the spec is read, and is wrong beyond."""

    name = "refuses_long_context"

    class Config(NaiveAttention.Config):
        def problems(self, dims: gptzoo.Dims) -> Any:
            yield from super().problems(dims)
            if dims.context_length > 40:
                yield "", "needs a context_length of at most 40"

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor) -> Any:
        if self.dims.context_length > 40:
            raise RuntimeError("not reached")
        return super().attend(q, k, v, context, k_pos)


def text_of(component: type[gptzoo.Component], name: str, outcome: str = "failed") -> str:
    (verdict,) = gptzoo.testing.check(component, only=[name])
    assert verdict.outcome == outcome, verdict.text
    return verdict.text


def test_the_smallest_length_is_reported() -> None:
    text = text_of(LeaksFromLength, "causality")  # the second layer sees a change of token 1 in the last token
    assert re.match(r"changing token \d+ of 50 changes the logits of token \d+ by", text)


def test_only_the_options_that_matter_are_reported_with_their_smallest_values() -> None:
    text = text_of(LeaksFromWidth, "causality")
    settings, _, finding = text.partition(": ")
    assert sorted(settings.removeprefix("with ").split(", ")) == ["wide true", "width 21"]
    assert finding.startswith("changing token 1 of 2 changes the logits of token 0 by")


def test_an_option_that_the_user_sets_keeps_its_value() -> None:
    (verdict,) = gptzoo.testing.check(LeaksFromWidth, {"wide": False}, only=["causality"])
    assert verdict.outcome == "passed"


def test_a_model_that_is_refused_when_the_spec_is_read_is_right() -> None:
    assert text_of(RefusesLongContext, "causality", "passed") == ""


@pytest.mark.slow
def test_the_verdict_is_the_same_every_time() -> None:
    assert text_of(LeaksFromWidth, "rows", "passed") == ""
    assert text_of(LeaksFromWidth, "decoding") == text_of(LeaksFromWidth, "decoding")


@pytest.mark.parametrize("label", ["attention:sdpa", "ffn:glu", "positional:learned", "norm:pre_ln"])
def test_the_plan_has_valid_cases_that_deal_every_option_and_shape(fresh_registry: Any, label: str) -> None:
    kind, _, name = label.partition(":")
    subject = ModelPartUnderTest(fresh_registry.get(kind, name), {})
    cases = list(planned_cases(subject, "causality", Sizes(), QUICK))
    for case in cases:
        Trial(subject, case).validate()
        assert case.length <= QUICK.max_length
        assert case.length * case.batch_size <= QUICK.max_tokens
    options = {option for case in cases for option in case.options}
    assert options == set(type(subject.config).model_fields) - {"type"}
    assert {case.length for case in cases} >= {1, 7, 8, 16, 31, 33, 64, 65, 127, 128, 129, 257}
    assert {case.batch_size for case in cases} >= {1, 2, 3, 8, 9}
    assert {case.shape for case in cases} >= {*range(8)}


def test_more_effort_has_more_cases(fresh_registry: Any) -> None:
    subject = ModelPartUnderTest(fresh_registry.get("attention", "sdpa"), {})
    counts = [len(list(planned_cases(subject, "rows", Sizes(), effort))) for effort in (SAMPLE, QUICK, SLOW)]
    assert counts == [SAMPLE.n_planned, QUICK.n_planned, SLOW.n_planned]
    assert counts == sorted(set(counts))


def test_simpler_cases_end_with_the_simplest_one() -> None:
    case = Case((65, 33, 1), batch_size=17, options={"window": 33, "wide": True}, shape=5, gain=4, variant=3)
    for _ in range(200):
        simpler = list(simpler_cases(case))
        if not simpler:
            break
        case = simpler[-1]
    assert case == Case((1,), batch_size=1)
