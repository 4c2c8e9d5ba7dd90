"""Results must be equal bit for bit, or differ by rounding that vanishes in double precision."""

from __future__ import annotations

import pytest
from torch import Tensor

import gptzoo
import gptzoo.testing


class SumOfAllTokens(gptzoo.FeedForward):
    """Base of two networks whose output involves the sum of all tokens of the row."""

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        return self.combine(x, x.sum((1, 2), keepdim=True))

    def combine(self, x: Tensor, total: Tensor) -> Tensor:
        raise NotImplementedError


class RoundingOfTheSum(SumOfAllTokens):
    """Adds the sum and subtracts it again. Only its rounding remains, as when a sum is computed in another order."""

    name = "rounding_of_the_sum"

    def combine(self, x: Tensor, total: Tensor) -> Tensor:
        return (x + 0.03 * total) - 0.03 * total


class SmallLeak(SumOfAllTokens):
    """Scales by a ten-millionth of the sum. That is as small as rounding, but it is a real dependence."""

    name = "small_leak"

    def combine(self, x: Tensor, total: Tensor) -> Tensor:
        return x * (1 + 1e-7 * total)


@pytest.mark.parametrize("name", ["causality", "rows"])
def test_rounding_passes_with_a_note(name: str) -> None:
    (verdict,) = gptzoo.testing.check(RoundingOfTheSum, only=[name])
    assert verdict.outcome == "passed"
    assert ("equal within rounding" in verdict.text) == (name == "causality")  # the sum of a row does not mix rows


def test_a_leak_as_small_as_rounding_is_found() -> None:
    (verdict,) = gptzoo.testing.check(SmallLeak, only=["causality"])
    assert verdict.outcome == "failed"
    assert "changing token" in verdict.text
