"""Other values of an option are derived from its annotation, and only valid ones are tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import pytest
import torch
from pydantic import Field, PositiveInt, Strict
from torch import Tensor

import gptzoo
import gptzoo.testing
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.properties.assembly.options import other_values


class ManyOptions(gptzoo.Activation):
    """An activation with one option of every type."""

    name = "many_options"

    class Config(gptzoo.Activation.Config):
        flag: bool = True
        mode: Literal["a", "b", "c"] = "a"
        count: PositiveInt = 1
        share: float = Field(default=0.5, ge=0, le=1)
        limit: PositiveInt | None = None
        pair: Annotated[tuple[float, float], Strict(False)] = (0.0, 1.0)
        inner: Annotated[gptzoo.Config, gptzoo.Reference("activation")] = gptzoo.by_default("relu")
        label: str = "none"

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            if self.count > 2:
                yield "count", "is greater than 2"

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=0)


class DependentOption(gptzoo.Activation):
    """Has an option that has an effect only if another option is on."""

    name = "dependent_option"

    class Config(gptzoo.Activation.Config):
        leaky: bool = False
        slope: float = 0.1

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.config.slope * x) if self.config.leaky else x.clamp(min=0)


def values(name: str, options: Mapping[str, Any] | None = None) -> list[Any]:
    return [value for value, _ in other_values(ModelPartUnderTest(ManyOptions, options or {}), name)]


def test_other_values_follow_from_the_annotation(fresh_registry: object) -> None:
    assert values("flag") == [False]
    assert values("mode") == ["b", "c"]
    assert values("count") == [2]  # `problems` refuses larger values, the type smaller ones
    assert all(0 <= value <= 1 and value != 0.5 for value in values("share"))
    assert len(values("share")) >= 3
    assert values("limit")[:2] == [1, 2]
    assert None in values("limit", {"limit": 3})
    assert [0.0, 1.1] in values("pair")
    assert values("inner") == ["gelu", "silu"]
    assert values("label") == []


@pytest.mark.slow
def test_only_options_that_were_tried_are_reported() -> None:
    (verdict,) = gptzoo.testing.check(ManyOptions, only=["options"])
    assert "option 'flag' changes nothing: tried False" in verdict.text
    assert "'label'" not in verdict.text


def test_an_option_may_have_an_effect_only_with_another_option() -> None:
    (verdict,) = gptzoo.testing.check(DependentOption, only=["options"])
    assert verdict.outcome == "passed"
