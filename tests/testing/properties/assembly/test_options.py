"""Other values of an option come from its annotation, and only valid ones are tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt, Strict
from torch import Tensor

import gptzoo
import gptzoo.testing
from gptzoo.testing.properties.assembly.options import other_values
from gptzoo.testing.subject import PartSubject


class Rich(gptzoo.Activation):
    """An activation with options of every sort."""

    name = "rich"

    class Config(gptzoo.Activation.Config):
        flag: bool = True
        mode: Literal["a", "b", "c"] = "a"
        count: PositiveInt = 1
        share: float = Field(0.5, ge=0, le=1)
        limit: PositiveInt | None = None
        pair: Annotated[tuple[float, float], Strict(False)] = (0.0, 1.0)
        inner: Annotated[gptzoo.Config, gptzoo.Reference("activation")] = gptzoo.by_default("relu")
        label: str = "none"

        def problems(self, dims: Any) -> Any:
            if self.count > 2:
                yield "count", "is more than two"

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=0)


class NeedsAnother(gptzoo.Activation):
    """Has an option that does something only where another one is on."""

    name = "needs_another"

    class Config(gptzoo.Activation.Config):
        leaky: bool = False
        slope: float = 0.1

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.config.slope * x) if self.config.leaky else x.clamp(min=0)


def values(name: str, options: Mapping[str, Any] | None = None) -> list[Any]:
    return [value for value, _ in other_values(PartSubject(Rich, options or {}), name)]


def test_each_annotation_has_other_values(fresh_registry: Any) -> None:
    assert values("flag") == [False]
    assert values("mode") == ["b", "c"]
    assert values("count") == [2]  # the rule refuses more, the type less
    assert all(0 <= value <= 1 and value != 0.5 for value in values("share"))
    assert len(values("share")) >= 3
    assert values("limit")[:2] == [1, 2]
    assert None in values("limit", {"limit": 3})
    assert [0.0, 1.1] in values("pair")
    assert values("inner") == ["gelu", "silu"]
    assert values("label") == []


def test_dead_options_are_named_and_those_not_tried_are_not() -> None:
    (verdict,) = gptzoo.testing.check(Rich, only=["options"])
    assert "option 'flag' changes nothing: tried False" in verdict.text
    assert "'label'" not in verdict.text


def test_an_option_may_need_another_one() -> None:
    (verdict,) = gptzoo.testing.check(NeedsAnother, only=["options"])
    assert verdict.outcome == "passed"
