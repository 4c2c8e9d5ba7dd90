"""Equal bit for bit, or different by rounding that vanishes in double precision: nothing else passes."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

import gptzoo
import gptzoo.testing


class Coupled(gptzoo.FeedForward):
    """Takes something of the sum of all tokens."""

    def forward(self, x: Tensor, step: Any, state: Any = None) -> Tensor:
        return self.take(x, x.sum((1, 2), keepdim=True))


class RoundsByTheBatch(Coupled):
    """Adds the sum and takes it away again, as sums in another order do: what is left is rounding."""

    name = "rounds_by_the_batch"

    def take(self, x: Tensor, total: Tensor) -> Tensor:
        return (x + 0.03 * total) - 0.03 * total


class LeaksALittle(Coupled):
    """Scales by a ten-millionth of the sum, which is as small as rounding is, but is none."""

    name = "leaks_a_little"

    def take(self, x: Tensor, total: Tensor) -> Tensor:
        return x * (1 + 1e-7 * total)


@pytest.mark.parametrize("name", ["causality", "rows"])
def test_rounding_passes_with_a_note(name: str) -> None:
    (verdict,) = gptzoo.testing.check(RoundsByTheBatch, only=[name])
    assert verdict.outcome == "passed"
    assert ("equal within rounding" in verdict.text) == (name == "causality")  # its sums are of each row by itself


def test_a_leak_as_small_as_rounding_is_found() -> None:
    (verdict,) = gptzoo.testing.check(LeaksALittle, only=["causality"])
    assert verdict.outcome == "failed"
    assert "changing token" in verdict.text
