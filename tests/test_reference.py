"""References from specs to components: resolved late, validated in place, and part of the JSON Schema."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from pydantic import ValidationError
from support import admit, small

import gptzoo
from gptzoo import Config, Dims, FeedForward, ModelSpec, Reference, by_default, inherited
from gptzoo.component import Component
from gptzoo.errors import SpecError
from gptzoo.strict_model import StrictModel


class Expert(Component):
    """Base class of a kind that a plugin defines for its own use."""

    kind = "expert"

    class Config(Component.Config):
        width: int = 4
        dropout: float | None = inherited("dropout")

        def problems(self, dims: Dims) -> Any:
            if self.width > dims.d_model:
                yield "width", f"wider than the model's {dims.d_model}"


class Plain(Expert):
    """An expert."""

    name = "plain"


class Gated(Expert):
    """Another expert."""

    name = "gated"


class Mixture(FeedForward):
    """A network that nests a component of a new kind, a list of these, and one of its own kind."""

    name = "mixture"

    class Config(FeedForward.Config):
        expert: Annotated[Config, Reference("expert")] = by_default("plain")
        others: list[Annotated[Config, Reference("expert")]] = []
        shared: Annotated[Config, Reference("ffn")] | None = None


class Shelf(StrictModel):
    """A model defined before its components are registered."""

    lamp: Annotated[Config, Reference("activation")] = by_default("gelu")
    spare: Annotated[Config, Reference("activation")] | None = None


def message(data: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Shelf.model_validate(data)
    (error,) = caught.value.errors()
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


# ---------------------------------------------------------------------- forms


def test_a_name_is_short_for_an_object_with_that_type() -> None:
    short, full = Shelf.model_validate({"lamp": "silu"}), Shelf.model_validate({"lamp": {"type": "silu"}})
    assert short == full
    assert short.lamp.type == "silu"
    assert Shelf.model_validate({"lamp": short.lamp}) == short
    assert Shelf().lamp.type == "gelu"
    assert Shelf().spare is None


def test_a_reference_is_dumped_in_full_and_reads_back() -> None:
    shelf = Shelf.model_validate({"lamp": {"type": "gelu", "approximate": "tanh"}})
    dumped = json.loads(json.dumps(shelf.model_dump(mode="json")))
    assert dumped == {"lamp": {"type": "gelu", "approximate": "tanh"}, "spare": None}
    assert Shelf.model_validate(dumped) == shelf


@pytest.mark.parametrize(
    ("value", "json_type"),
    [([], "a list"), (3, "a number"), (1.5, "a number"), (True, "a boolean"), (None, "null")],
)
def test_errors_name_the_json_type_of_an_invalid_reference(value: Any, json_type: str) -> None:
    assert (
        message({"lamp": value})
        == f'lamp: expected the name of a component or an object with a "type", got {json_type}'
    )


def test_the_error_for_a_missing_type_lists_all_components() -> None:
    known = ", ".join(gptzoo.registered("activation"))
    assert message({"lamp": {}}) == f'lamp: needs a "type", the name of the activation  (known: {known})'
    assert message({"lamp": {"type": 3}}) == f'lamp: needs a "type", the name of the activation  (known: {known})'


def test_a_config_of_another_kind_is_an_error() -> None:
    ffn = gptzoo.load_model_spec(small()).ffn
    assert message({"lamp": ffn}) == "lamp: expected a component of kind activation, got ffn 'mlp'"


def test_errors_inside_a_component_keep_their_place() -> None:
    assert message({"lamp": {"type": "gelu", "aproximate": "tanh"}}) == (
        "lamp.aproximate: 'gelu' has no option 'aproximate'; did you mean 'approximate'?"
    )
    assert message({"spare": {"type": "gelu", "approximate": 3}}).startswith("spare.approximate: Input should be")


# ---------------------------------------------------------------------- lists over the depth


def problems(spec: dict[str, Any]) -> list[str]:
    with pytest.raises(SpecError) as caught:
        gptzoo.load_model_spec(spec)
    return [f"{problem.path}: {problem.reason}" for problem in caught.value.problems]


@pytest.mark.usefixtures("fresh_registry")
def test_errors_in_a_list_have_the_index_of_the_item() -> None:
    listed = ["sdpa", {"type": "sdpa", "windw": 3}, "sdap", 7, {"type": "sdpa", "window": 0}]
    messages = problems(small(n_layers=5, attention=listed))
    assert [line.split(";")[0] for line in messages] == [
        "$.attention[1].windw: 'sdpa' has no option 'windw'",
        "$.attention[2]: no attention named 'sdap'",
        '$.attention[3]: expected the name of a component or an object with a "type", got a number',
        "$.attention[4].window: should be greater than 0",
    ]


def test_an_empty_list_and_a_nested_list_are_errors() -> None:
    assert problems(small(attention=[])) == ["$.attention: expected at least one attention, got an empty list"]
    assert problems(small(attention=[["sdpa"]])) == [
        '$.attention[0]: expected the name of a component or an object with a "type", got a list'
    ]


def test_only_kinds_per_layer_accept_a_list() -> None:
    assert problems(small(norm=["pre_ln", "post_ln"])) == [
        '$.norm: expected the name of a component or an object with a "type", got a list'
    ]


# ---------------------------------------------------------------------- late registration, kinds of one's own


@pytest.mark.usefixtures("fresh_registry")
def test_components_registered_after_the_spec_classes_are_found() -> None:
    class Late(gptzoo.Activation):
        """Registered after all spec classes were defined."""

        name = "late"

    for model in (Shelf, ModelSpec):
        assert '"late"' not in json.dumps(model.model_json_schema())  # descriptions have words such as "related"
    admit(Late)
    assert Shelf.model_validate({"lamp": "late"}).lamp.component is Late
    assert gptzoo.load_model_spec(small(activation="late")).activation.component is Late
    for model in (Shelf, ModelSpec):
        assert "late" in json.dumps(model.model_json_schema())


@pytest.mark.usefixtures("fresh_registry")
def test_a_plugin_may_nest_components_of_its_own_kind() -> None:
    admit(Plain, Gated, Mixture)
    ffn = {"type": "mixture", "expert": {"type": "gated", "width": 8}, "others": ["plain", {"type": "gated"}]}
    spec = gptzoo.load_model_spec(small(ffn=ffn, dropout=0.25))
    assert spec.ffn.expert.component is Gated
    assert [other.component for other in spec.ffn.others] == [Plain, Gated]
    assert gptzoo.load_model_spec(small(ffn="mixture")).ffn.expert.type == "plain"
    assert ModelSpec.model_validate(spec.resolved()) == spec


@pytest.mark.usefixtures("fresh_registry")
def test_nested_components_inherit_from_the_model_also_inside_lists() -> None:
    admit(Plain, Gated, Mixture)
    ffn = {"type": "mixture", "others": ["plain", {"type": "gated", "dropout": 0.5}], "shared": "mlp"}
    spec = gptzoo.load_model_spec(small(ffn=ffn, dropout=0.25, activation="silu"))
    assert spec.ffn.expert.dropout == 0.25
    assert [other.dropout for other in spec.ffn.others] == [0.25, 0.5]
    assert (spec.ffn.shared.dropout, spec.ffn.shared.activation.type) == (0.25, "silu")


@pytest.mark.usefixtures("fresh_registry")
def test_errors_in_nested_components_name_their_place() -> None:
    admit(Plain, Gated, Mixture)
    ffn = {"type": "mixture", "expert": {"type": "plian"}, "others": [{"type": "plain", "widht": 3}]}
    assert problems(small(ffn=ffn)) == [
        "$.ffn.expert: no expert named 'plian'; did you mean 'plain'?  (known: gated, plain)" + disabled(),
        "$.ffn.others[0].widht: 'plain' has no option 'widht'; did you mean 'width'?",
    ]
    ffn = {
        "type": "mixture",
        "expert": {"type": "plain", "width": 99},
        "others": ["plain", {"type": "gated", "width": 99}],
    }
    assert problems(small(ffn=["mlp", ffn])) == [
        "$.ffn[1].expert.width: wider than the model's 32",
        "$.ffn[1].others[1].width: wider than the model's 32",
    ]


def disabled() -> str:
    """Return the part of an error message about installed plugins that the tests disable."""
    names = ", ".join(repr(origin.plugin) for origin in gptzoo.registry.current().disabled)
    return f"; GPTZOO_PLUGINS disables {names}" if names else ""


@pytest.mark.usefixtures("fresh_registry")
def test_inheriting_a_field_that_does_not_exist_is_an_error() -> None:
    class Astray(FeedForward):
        """Inherits from a field that does not exist."""

        name = "astray"

        class Config(FeedForward.Config):
            dropout: float | None = inherited("droput")

    admit(Astray)
    assert problems(small(ffn="astray")) == ["$.ffn.dropout: inherits 'droput', which is not a field of a model"]


# ---------------------------------------------------------------------- JSON schema


def resolve(schema: dict[str, Any], form: Any) -> Any:
    return schema["$defs"][form["$ref"].rpartition("/")[2]] if "$ref" in form else form


def references(value: Any) -> set[str]:
    """Yield every `$ref` in a schema."""
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


@pytest.mark.usefixtures("fresh_registry")
def test_the_schema_accepts_each_component_as_a_name_or_an_object() -> None:
    schema = ModelSpec.model_json_schema()
    attention = schema["properties"]["attention"]["oneOf"]
    assert [form["const"] for form in attention[:2]] == ["naive", "sdpa"]
    forms = [resolve(schema, form) for form in attention[2:-1]]
    assert [form["properties"]["type"]["const"] for form in forms] == ["naive", "sdpa"]
    assert all("type" in form["required"] for form in forms)
    assert all(form["additionalProperties"] is False for form in forms)
    assert attention[-1]["type"] == "array"
    assert names_in(attention[-1]["items"]) == ["naive", "sdpa"]
    assert names_in(schema["properties"]["norm"]) == ["post_ln", "pre_ln"]


def names_in(schema: dict[str, Any]) -> list[str]:
    """Return the names of components that a schema accepts."""
    return [form["const"] for form in schema["oneOf"] if "const" in form]


@pytest.mark.usefixtures("fresh_registry")
def test_every_choice_of_a_component_has_a_title_and_a_description() -> None:
    schema = ModelSpec.model_json_schema()
    for kind in ("architecture", "attention", "positional", "norm", "ffn", "activation"):
        for form in schema["properties"][kind]["oneOf"]:
            described = resolve(schema, form)
            assert described["title"].startswith(kind) or described["type"] == "array"
            assert described["description"].strip()


@pytest.mark.usefixtures("fresh_registry")
def test_a_component_that_nests_its_own_kind_has_a_finite_schema() -> None:
    admit(Plain, Gated, Mixture)
    schema = ModelSpec.model_json_schema()
    mixture = schema["$defs"]["ffn_mixture"]
    assert {"$ref": "#/$defs/ffn_mixture"} in mixture["properties"]["shared"]["anyOf"][0]["oneOf"]
    assert names_in(mixture["properties"]["expert"]) == ["gated", "plain"]
    assert {ref.rpartition("/")[2] for ref in references(schema)} == set(schema["$defs"])
    spec = small(ffn={"type": "mixture", "shared": {"type": "mixture", "shared": "mlp"}})
    assert gptzoo.load_model_spec(spec).ffn.shared.shared.type == "mlp"
