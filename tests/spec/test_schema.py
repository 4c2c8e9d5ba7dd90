"""The JSON Schema of specs, checked with the package jsonschema."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support import admit, small

from gptzoo import registry
from gptzoo.ablation.scaling.ladder_spec import ladder_schema
from gptzoo.components.activation import Activation
from gptzoo.spec.schema import ablation_schema, config_schema, field_descriptions, model_schema, run_schema

CONFIGS = Path(__file__).parents[2] / "configs"


def valid(spec: Any, schema: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(schema).is_valid(spec)


def run(**changes: Any) -> dict[str, Any]:
    return {"model": small(vocab_size=None), "steps": 3, **changes}


@pytest.mark.parametrize("make", [model_schema, run_schema, ladder_schema])
def test_a_schema_is_valid_by_draft_2020_12(make: Any) -> None:
    schema = make()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


SCHEMAS = {"models": model_schema, "runs": run_schema, "ablations": ablation_schema, "ladders": ladder_schema}


@functools.cache
def validator_of(folder: str) -> jsonschema.Draft202012Validator:
    """Return the validator of the files in a folder of configs."""
    schema = SCHEMAS[folder]()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*/*.json")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_example_config_is_valid_by_the_schema(file: Path) -> None:
    validator_of(file.parent.name).validate(json.loads(file.read_text()))


def test_every_valid_spec_is_valid_by_the_schema(any_spec: dict[str, Any]) -> None:
    assert valid(any_spec, model_schema())


@pytest.mark.parametrize(
    "changes",
    [
        {"d_modle": 32},
        {"d_model": "32"},
        {"d_model": 0},
        {"d_model": None},
        {"dropout": 1.0},
        {"attention": "sdqa"},
        {"attention": {"window": 4}},
        {"attention": {"type": "sdpa", "windw": 4}},
        {"attention": {"type": "sdpa", "window": -4}},
        {"attention": {"type": "sdpa", "qk_norm": "gelu"}},
        {"attention": []},
        {"norm": ["pre_ln"]},
        {"activation": {"type": "gelu", "approximate": "sometimes"}},
        {"spec_version": 2},
    ],
)
def test_an_invalid_model_is_invalid_by_the_schema(changes: dict[str, Any]) -> None:
    assert valid(small(), model_schema())
    assert not valid(small(**changes), model_schema())


@pytest.mark.parametrize(
    "changes", [{"steps": 0}, {"model": 3}, {"model": {"d_model": 3}}, {"optimizer": "adem"}, {"eval": {"evry": 3}}]
)
def test_an_invalid_run_is_invalid_by_the_schema(changes: dict[str, Any]) -> None:
    assert valid(run(), run_schema())
    assert not valid(run(**changes), run_schema())


def test_the_model_of_a_run_may_be_a_path() -> None:
    assert valid(run(model="models/tiny.json"), run_schema())


def test_a_file_may_name_its_schema() -> None:
    assert valid({"$schema": "model.schema.json", **small()}, model_schema())
    assert valid({"$schema": "run.schema.json", **run()}, run_schema())


class Sharp(Activation):
    """An activation."""

    name = "sharp"

    class Config(Activation.Config):
        slope: float = 2.0
        """Slope
        for x > 0."""


@pytest.mark.usefixtures("fresh_registry")
def test_installed_components_are_in_the_schema_with_their_descriptions() -> None:
    spec = small(activation={"type": "sharp", "slope": 3})
    assert not valid(spec, model_schema())
    admit(Sharp)
    schema = model_schema()
    assert valid(spec, schema)
    assert not valid(small(activation={"type": "sharp", "slope": "steep"}), schema)
    definition = schema["$defs"]["activation_sharp"]
    assert definition["properties"]["slope"]["description"] == "Slope\nfor x > 0."


@pytest.mark.parametrize("kind", registry.current().kinds)
def test_the_description_of_an_inherited_option_names_its_source(kind: str) -> None:
    for component in registry.current().of_kind(kind).values():
        schema = config_schema(component.Config)
        for definition in [schema, *schema.get("$defs", {}).values()]:
            for option in definition.get("properties", {}).values():
                if "inherits" in option:
                    assert f"Default: the model's `{option['inherits']}`." in option["description"]


def test_a_subclass_inherits_the_descriptions_of_its_base_class() -> None:
    glu = field_descriptions(registry.current().get("ffn", "glu").Config)
    assert "Hidden width in units" in glu["d_ff"]
    assert "as many parameters as an `mlp`" in glu["multiplier"]
