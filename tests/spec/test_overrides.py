"""`--set`: the fields it changes, the components it expands into objects, and its error messages."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from support import admit, small

import gptzoo
from gptzoo import Config, FeedForward, Reference
from gptzoo.errors import SpecError


def error(*arguments: Any) -> str:
    with pytest.raises(SpecError) as caught:
        gptzoo.load_model_spec(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("start", "override", "same_as"),
    [
        ({}, "d_model=64", {"d_model": 64}),
        ({}, " d_model = 64", {"d_model": 64}),
        ({}, "attention=naive", {"attention": "naive"}),
        ({}, 'attention={"type": "naive", "window": 3}', {"attention": {"type": "naive", "window": 3}}),
        ({}, 'attention=["naive", "sdpa"]', {"attention": ["naive", "sdpa"]}),
        ({"attention": "naive"}, "attention.window=3", {"attention": {"type": "naive", "window": 3}}),
        (
            {"attention": {"type": "naive", "window": 3}},
            "attention.window=null",
            {"attention": "naive"},
        ),
        (
            {"norm": "pre_ln"},
            'norm.layer={"type": "rmsnorm", "eps": 0.1}',
            {"norm": {"type": "pre_ln", "layer": {"type": "rmsnorm", "eps": 0.1}}},
        ),
        (
            {"norm": {"type": "pre_ln", "layer": "rmsnorm"}},
            "norm.layer.eps=0.1",
            {"norm": {"type": "pre_ln", "layer": {"type": "rmsnorm", "eps": 0.1}}},
        ),
        (
            {"attention": ["naive", "sdpa"]},
            "attention.1.window=3",
            {"attention": ["naive", {"type": "sdpa", "window": 3}]},
        ),
        ({"attention": ["naive", "sdpa"]}, "attention.0=sdpa", {"attention": "sdpa"}),
        ({}, "attention.type=naive", {"attention": "naive"}),
        ({}, "name=a=b", {"name": "a=b"}),
        ({}, "name=", {"name": ""}),
        ({}, 'name="64"', {"name": "64"}),
        ({}, "bias=false", {"bias": False}),
        ({}, "dropout=1e-1", {"dropout": 0.1}),
    ],
    ids=str,
)
def test_set_changes_a_field(start: dict[str, Any], override: str, same_as: dict[str, Any]) -> None:
    assert gptzoo.load_model_spec(small(**start), [override]) == gptzoo.load_model_spec(small(**start) | same_as)


def test_overrides_are_applied_in_order() -> None:
    overrides = ["attention=naive", "attention.window=3", "attention.window=5", "d_model=64"]
    spec = gptzoo.load_model_spec(small(), overrides)
    assert (spec.attention.type, spec.attention.window, spec.d_model) == ("naive", 5, 64)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("d_model", "--set: d_model: expected path.to.option=value"),
        ("=3", "--set: =3: expected path.to.option=value"),
        ("attention..window=3", "--set: attention..window=3: expected path.to.option=value"),
        (".d_model=3", "--set: .d_model=3: expected path.to.option=value"),
        ("d_model.x=3", "--set: $.d_model: has no options; its value is 32"),
        ("bias.x.y=3", "--set: $.bias: has no options; its value is false"),
        ("ffn.7=mlp", "--set: $.ffn: expected an index below 2, the length of the list, got '7'"),
        ("ffn.-1=mlp", "--set: $.ffn: expected an index below 2, the length of the list, got '-1'"),
        ("ffn.dropout=0.1", "--set: $.ffn: expected an index below 2, the length of the list, got 'dropout'"),
        ("d_modl=64", "spec: $.d_modl: no field named 'd_modl'; did you mean 'd_model'?"),
        ("norm.layr=rmsnorm", "spec: $.norm.layr: 'pre_ln' has no option 'layr'; did you mean 'layer'?"),
        ("d_model=NaN", "spec: $.d_model: should be a valid integer"),
        ("d_model=six", "spec: $.d_model: should be a valid integer"),
        ("dropout=NaN", "spec: $.dropout: should be a valid number"),
        ("n_heads=5", "spec: $.n_heads: must divide d_model 32, got 5"),
    ],
)
def test_an_invalid_override_is_an_error(override: str, message: str) -> None:
    spec = small(ffn=["mlp", "glu"], norm="pre_ln", bias=False)
    assert error(spec, [override]) == message


@pytest.mark.parametrize(
    ("override", "same_as"),
    [
        ("attention.window=3", {"attention": {"type": "sdpa", "window": 3}}),
        ("attention.qk_norm=rmsnorm", {"attention": {"type": "sdpa", "qk_norm": "rmsnorm"}}),
        ("norm.layer=rmsnorm", {"norm": {"type": "pre_ln", "layer": "rmsnorm"}}),
        ("norm.layer.eps=0.1", {"norm": {"type": "pre_ln", "layer": {"type": "layernorm", "eps": 0.1}}}),
        ("architecture.head_bias=true", {"architecture": {"type": "decoder", "head_bias": True}}),
        ("attention.type=naive", {"attention": "naive"}),
    ],
)
def test_a_default_component_becomes_an_object_when_an_option_is_set(override: str, same_as: dict[str, Any]) -> None:
    assert gptzoo.load_model_spec(small(), [override]) == gptzoo.load_model_spec(small(**same_as))


def test_a_component_without_a_default_needs_a_type() -> None:
    assert 'spec: $.attention.qk_norm: needs a "type", the name of the norm_layer' in error(
        small(), ["attention.qk_norm.eps=0.1"]
    )


class RequiresActivation(FeedForward):
    """A network with a required activation."""

    name = "requires_activation"

    class Config(FeedForward.Config):
        activation: Annotated[Config, Reference("activation")]


@pytest.mark.usefixtures("fresh_registry")
def test_a_required_component_that_is_omitted_needs_a_type() -> None:
    admit(RequiresActivation)
    assert 'needs a "type", the name of the activation' in error(
        small(ffn="requires_activation"), ["ffn.activation.approximate=tanh"]
    )
    spec = gptzoo.load_model_spec(
        small(ffn="requires_activation"), ["ffn.activation=gelu", "ffn.activation.approximate=tanh"]
    )
    assert spec.ffn.activation.approximate == "tanh"


def test_set_changes_components_of_a_run_and_of_its_model() -> None:
    overrides = ["model.attention.window=3", "optimizer.lr=0.5", "eval.every=7", "schedule=constant"]
    spec = gptzoo.load_run_spec({"model": small(), "steps": 1}, overrides)
    assert (spec.model.attention.window, spec.optimizer.lr, spec.eval.every) == (3, 0.5, 7)
    assert spec.schedule.type == "constant"
