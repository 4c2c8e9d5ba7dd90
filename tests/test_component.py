"""Components and their configs: options in JSON, their types, and rules across fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import PositiveInt, ValidationError

import gptzoo
from gptzoo.component import Component, Config, inherited
from gptzoo.strict_model import StrictModel, did_you_mean


class Lamp(Component):
    """A lamp."""

    kind = "lamp"

    class Config(Component.Config):
        watts: PositiveInt = 40
        color: str | None = inherited("color")

    def __init__(self, config: Any, *sizes: int, **named: int):
        self.config, self.sizes, self.named = config, sizes, named


class DeskLamp(Lamp):
    """A lamp on a desk."""

    name = "desk"


class FloorLamp(Lamp):
    """A lamp on the floor."""

    name = "floor"

    class Config(Lamp.Config):
        height: float = 1.5

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            if self.height > dims:
                yield "height", "higher than the room"


def problems_of(model: type[StrictModel], data: Any) -> dict[str, str]:
    """Return each error message by its dotted path."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(data)
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}


def test_each_class_has_its_own_config_class() -> None:
    assert DeskLamp.Config is not FloorLamp.Config
    assert DeskLamp.Config is not Lamp.Config
    assert DeskLamp.Config().component is DeskLamp
    assert FloorLamp.Config().component is FloorLamp
    assert (DeskLamp.Config().type, FloorLamp.Config().type) == ("desk", "floor")


def test_a_config_builds_its_component() -> None:
    config = FloorLamp.Config(height=2)
    lamp = config.build(1, 2, depth=3)
    assert type(lamp) is FloorLamp
    assert lamp.config is config
    assert (lamp.sizes, lamp.named) == ((1, 2), {"depth": 3})


def test_a_subclass_inherits_options_and_adds_its_own() -> None:
    assert list(FloorLamp.Config.model_fields) == ["type", "watts", "color", "height"]
    assert list(DeskLamp.Config.model_fields) == ["type", "watts", "color"]
    assert FloorLamp.Config(watts=60, height=1.0).model_dump() == {
        "type": "floor",
        "watts": 60,
        "color": None,
        "height": 1.0,
    }


def test_the_type_of_a_config_is_the_name_of_its_component() -> None:
    assert problems_of(FloorLamp.Config, {"type": "desk"}) == {"type": "Input should be 'floor'"}


def test_a_config_cannot_be_changed() -> None:
    config = FloorLamp.Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.height = 3.0
    assert hash(config) == hash(FloorLamp.Config())
    assert config == FloorLamp.Config()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("watts", "4"),
        ("watts", True),
        ("watts", 1.5),
        ("watts", 4.0),
        ("watts", None),
        ("watts", [4]),
        ("watts", 0),
        ("height", "1"),
        ("height", True),
        ("height", float("nan")),
        ("height", float("inf")),
        ("color", 3),
    ],
)
def test_values_of_a_wrong_type_or_range_are_errors(option: str, value: Any) -> None:
    assert set(problems_of(FloorLamp.Config, {option: value})) == {option}


def test_an_integer_is_a_float() -> None:
    assert FloorLamp.Config.model_validate({"height": 2}).height == 2.0


def test_unknown_options_are_reported_with_suggestions_and_all_other_errors() -> None:
    assert problems_of(FloorLamp.Config, {"hieght": 1, "wats": 3, "x{y}": 0, "watts": -1}) == {
        "hieght": "'floor' has no option 'hieght'; did you mean 'height'?",
        "wats": "'floor' has no option 'wats'; did you mean 'watts'?",
        "x{y}": "'floor' has no option 'x{y}'",
        "watts": "should be greater than 0",
    }


def test_a_config_checks_rules_across_fields() -> None:
    assert list(FloorLamp.Config(height=3.0).problems(2.0)) == [("height", "higher than the room")]
    assert list(FloorLamp.Config(height=1.0).problems(2.0)) == []
    assert list(DeskLamp.Config().problems(2.0)) == []


def test_the_schema_has_inherited_options_and_the_docstring() -> None:
    properties = FloorLamp.Config.model_json_schema()["properties"]
    assert properties["color"]["inherits"] == "color"
    assert FloorLamp.Config.model_json_schema()["description"] == "A lamp on the floor."


def test_did_you_mean_suggests_a_similar_name_or_nothing() -> None:
    assert did_you_mean("droput", ["dropout", "bias"]) == "; did you mean 'dropout'?"
    assert did_you_mean("zzz", ["dropout", "bias"]) == ""


def test_the_base_classes_are_public_names() -> None:
    assert gptzoo.Component is Component
    assert gptzoo.Config is Config
    assert gptzoo.inherited is inherited
