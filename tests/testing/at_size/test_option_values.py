"""Values of options follow from their types and bounds, as edge values and as a hypothesis strategy."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, PositiveInt, Strict

import gptzoo
from gptzoo.testing.at_size.option_values import edge_values, options_strategy


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Config(gptzoo.Activation.Config):
    flag: bool = True
    mode: Literal["a", "b", "c"] = "a"
    count: PositiveInt = 1
    even: Annotated[int, Field(ge=2, lt=40, multiple_of=2)] = 6
    window: PositiveInt | None = None
    share: Annotated[float, Field(ge=0, lt=1)] = 0.5
    eps: Annotated[float, Field(gt=0)] = 1e-5
    colour: Annotated[Colour, Strict(False)] = Colour.RED
    pair: Annotated[tuple[int, float], Strict(False)] = (3, 0.5)
    inner: Annotated[gptzoo.Config, gptzoo.Reference("activation")] = gptzoo.by_default("relu")
    dropout: float | None = gptzoo.inherited("dropout")
    label: str = "none"


def values(name: str) -> list[Any]:
    return edge_values(Config.model_fields[name])


def test_edge_values_cross_the_edges_within_the_bounds(fresh_registry: object) -> None:
    assert values("flag") == [False]
    assert values("mode") == ["b", "c"]
    assert {2, 7, 8, 9, 16, 17, 33, 63, 64, 65, 127, 128, 129} <= set(values("count"))
    assert 1 not in values("count")  # its default
    assert 0 not in values("count")
    assert set(values("even")) == {2, 4, 8, 12, 16, 24, 32}
    assert {1, 9, 129} <= set(values("window"))
    assert {0.0, 0.1, 0.9} <= {round(value, 3) for value in values("share")}
    assert max(values("share")) < 1
    assert max(values("eps")) == pytest.approx(1e-3)
    assert values("colour") == ["red", "blue"]
    assert values("inner") == ["gelu", "silu"]  # its default is relu
    assert set(values("dropout")) == {0.1, 0.5}
    assert {(6, 0.5), (3, 1.0)} <= {tuple(pair) for pair in values("pair")}
    assert values("label") == []


@given(st.data())
def test_drawn_options_are_valid(data: st.DataObject) -> None:
    options = data.draw(options_strategy(Config))
    assert set(options) <= Config.model_validate({"type": "", **options}).model_fields_set


def test_required_options_are_always_drawn() -> None:
    class Required(gptzoo.Activation.Config):
        width: PositiveInt

    @given(options_strategy(Required))
    def check(options: dict[str, Any]) -> None:
        assert options["width"] >= 1

    check()
