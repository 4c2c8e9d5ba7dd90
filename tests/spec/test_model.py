"""Model specs: every valid spec can be built and reads back as itself, and errors name the place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support import SPECS, admit, small, types_with_defaults
from torch import Tensor

import gptzoo
from gptzoo import Dims, ModelSpec, Positional
from gptzoo.errors import SpecError


def problems(spec: dict[str, Any]) -> list[str]:
    with pytest.raises(SpecError) as caught:
        gptzoo.load_model_spec(spec)
    return [f"{problem.path}: {problem.reason}" for problem in caught.value.problems]


# ---------------------------------------------------------------------- valid specs


def one_of_kind(kind: str, **options: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A registered component, by its name or with some of those `options` that it has."""

    def with_options(name: str) -> st.SearchStrategy[Any]:
        fields = gptzoo.registered(kind)[name].Config.model_fields
        known = {option: strategy for option, strategy in options.items() if option in fields}
        return st.just(name) | st.fixed_dictionaries({"type": st.just(name)}, optional=known)

    return st.sampled_from(types_with_defaults(kind)).flatmap(with_options)


def maybe_list(item: st.SearchStrategy[Any], n_layers: int) -> st.SearchStrategy[Any]:
    return item | st.lists(item, min_size=1, max_size=n_layers)


@st.composite
def model_specs(draw: st.DrawFn) -> dict[str, Any]:
    """The JSON of valid specs with any registered components."""
    n_layers, n_heads, context = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 4])), draw(st.integers(1, 16))
    probability, flag, eps = st.floats(0, 0.9), st.booleans(), st.floats(1e-9, 1.0)
    norm_layer = one_of_kind("norm_layer", eps=eps, bias=flag)
    activation = one_of_kind("activation", approximate=st.sampled_from(["none", "tanh"]))
    attention = one_of_kind(
        "attention",
        n_kv_heads=st.none() | st.sampled_from([g for g in (1, 2, 4) if n_heads % g == 0]),
        window=st.none() | st.integers(1, context),
        dropout=st.none() | probability,
        out_dropout=st.none() | probability,
        qkv_bias=st.none() | flag,
        out_bias=st.none() | flag,
        qk_norm=st.none() | norm_layer,
    )
    positional = one_of_kind("positional", theta=st.floats(1, 1e6), base=st.floats(1, 1e6), scale_tokens=flag)
    ffn = one_of_kind(
        "ffn", multiplier=st.floats(0.1, 8), activation=st.none() | activation, dropout=probability, bias=flag
    ) | st.fixed_dictionaries({"type": st.sampled_from(["mlp", "glu"]), "d_ff": st.integers(1, 100)})
    return draw(
        st.fixed_dictionaries(
            {
                "context_length": st.just(context),
                "d_model": st.just(n_heads * draw(st.sampled_from([2, 4]))),
                "n_layers": st.just(n_layers),
                "n_heads": st.just(n_heads),
                "vocab_size": st.integers(1, 50),
            },
            optional={
                "name": st.text(max_size=5),
                "attention": maybe_list(attention, n_layers),
                "positional": maybe_list(positional, n_layers),
                "ffn": maybe_list(ffn, n_layers),
                "norm": one_of_kind("norm", layer=norm_layer),
                "activation": activation,
                "dropout": probability,
                "bias": flag,
                "tie_embeddings": flag,
                "architecture": one_of_kind("architecture", head_bias=flag, init_std=st.floats(1e-3, 1)),
            },
        )
    )


@settings(max_examples=150)
@given(model_specs())
def test_a_resolved_spec_reads_back_as_itself(data: dict[str, Any]) -> None:
    spec = gptzoo.load_model_spec(data)
    resolved = spec.resolved()
    assert ModelSpec.model_validate(resolved) == spec
    assert ModelSpec.model_validate(json.loads(json.dumps(resolved))) == spec
    assert gptzoo.load_model_spec(resolved).resolved() == resolved


@settings(max_examples=60)
@given(model_specs())
def test_every_valid_spec_can_be_built(data: dict[str, Any]) -> None:
    spec = gptzoo.load_model_spec(data)
    model = gptzoo.build(spec, device="meta")
    assert len(model.blocks) == spec.n_layers
    assert model.spec == spec


@settings(max_examples=100)
@given(model_specs())
def test_a_resolved_spec_has_no_unset_inherited_option(data: dict[str, Any]) -> None:
    def check(config: Any) -> None:
        for name, field in type(config).model_fields.items():
            value = getattr(config, name)
            if isinstance(field.json_schema_extra, dict) and "inherits" in field.json_schema_extra:
                assert value is not None, f"{config.type}.{name}"
            if isinstance(value, gptzoo.Config):
                check(value)

    spec = gptzoo.load_model_spec(data)
    for field in ("attention", "positional", "ffn"):
        for config in spec.per_layer(field):
            check(config)
    for config in (spec.norm, spec.activation, spec.architecture):
        check(config)


def test_every_covering_spec_reads_back_as_itself(any_spec: dict[str, Any]) -> None:
    spec = gptzoo.load_model_spec(any_spec)
    assert ModelSpec.model_validate(spec.resolved()) == spec
    assert len(SPECS) >= 16


def test_the_defaults_are_gpt2s() -> None:
    assert gptzoo.load_model_spec(small()).resolved() == {
        "spec_version": 1,
        "name": "model",
        "vocab_size": 13,
        "context_length": 16,
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 4,
        "d_head": None,
        "architecture": {
            "type": "decoder",
            "embed_scale": 1.0,
            "embed_dropout": 0.0,
            "head_bias": False,
            "logit_scale": 1.0,
            "logit_softcap": None,
            "init_std": 0.02,
        },
        "attention": {
            "type": "sdpa",
            "n_kv_heads": 4,
            "window": None,
            "dropout": 0.0,
            "out_dropout": 0.0,
            "qkv_bias": True,
            "out_bias": True,
            "qk_norm": None,
            "qk_norm_over": "head",
            "scale": None,
            "clip": None,
            "gate": False,
            "softcap": None,
            "sinks": False,
        },
        "positional": {"type": "learned"},
        "norm": {
            "type": "pre_ln",
            "layer": {"type": "layernorm", "eps": 1e-5, "weight": True, "bias": True},
            "residual_scale": 1.0,
            "embedding_norm": False,
        },
        "activation": {"type": "gelu", "approximate": "none"},
        "ffn": {
            "type": "mlp",
            "multiplier": 4.0,
            "d_ff": None,
            "activation": {"type": "gelu", "approximate": "none"},
            "dropout": 0.0,
            "bias": True,
        },
        "dropout": 0.0,
        "bias": True,
        "tie_embeddings": True,
        "parametrisation": None,
    }


def test_a_spec_cannot_be_changed() -> None:
    spec = gptzoo.load_model_spec(small())
    with pytest.raises(ValidationError, match="frozen"):
        spec.d_model = 64
    with pytest.raises(ValidationError, match="frozen"):
        spec.attention.window = 4
    with pytest.raises(TypeError):
        gptzoo.load_model_spec(small(attention=["naive", "sdpa"])).attention[0] = spec.attention


def test_equal_specs_have_equal_hashes() -> None:
    a, b = (gptzoo.load_model_spec(small(attention=form)) for form in ("sdpa", {"type": "sdpa"}))
    assert a == b
    assert hash(a) == hash(b)


# ---------------------------------------------------------------------- lists over the depth


@pytest.mark.parametrize(
    ("listed", "kept"),
    [
        (["sdpa"], "sdpa"),
        (["sdpa", "sdpa", "sdpa"], "sdpa"),
        (["sdpa", {"type": "sdpa", "window": None}], "sdpa"),
        (["sdpa", {"type": "sdpa", "dropout": 0.0, "n_kv_heads": 4}], "sdpa"),  # the inherited values
        (["naive", "sdpa", "naive", "sdpa"], ["naive", "sdpa"]),
        (["naive", "sdpa", "naive"], ["naive", "sdpa", "naive"]),
        (["naive", "naive", "sdpa", "naive", "naive", "sdpa"], ["naive", "naive", "sdpa"]),
        (["naive", "sdpa", "naive", "naive", "sdpa"], ["naive", "sdpa", "naive", "naive", "sdpa"]),
    ],
    ids=str,
)
def test_a_list_is_reduced_to_its_shortest_period(listed: list[Any], kept: Any) -> None:
    spec = gptzoo.load_model_spec(small(n_layers=6, attention=listed))
    expected = gptzoo.load_model_spec(small(n_layers=6, attention=kept))
    assert spec == expected
    assert ModelSpec.model_validate(spec.resolved()) == spec
    assert isinstance(spec.attention, tuple) == isinstance(kept, list)
    if isinstance(kept, list):
        assert len(spec.attention) == len(kept)


@settings(max_examples=100)
@given(listed=st.lists(st.sampled_from(["naive", "sdpa"]), min_size=1, max_size=6), n_layers=st.integers(6, 8))
def test_a_list_is_cycled_whatever_its_period(listed: list[str], n_layers: int) -> None:
    spec = gptzoo.load_model_spec(small(n_layers=n_layers, attention=listed))
    expected = [listed[layer % len(listed)] for layer in range(n_layers)]
    assert [config.type for config in spec.per_layer("attention")] == expected


@pytest.mark.parametrize("field", ["attention", "positional", "ffn"])
def test_a_list_longer_than_the_depth_is_an_error(field: str) -> None:
    listed = {
        "attention": ["naive", "naive", "sdpa"],
        "positional": ["rope", "none", "none"],
        "ffn": ["mlp", "mlp", "glu"],
    }[field]
    assert problems(small(**{field: listed})) == [f"$.{field}: has 3 entries, but the model has only 2 layers"]


# ---------------------------------------------------------------------- inheritance


def test_components_inherit_bias_and_dropout() -> None:
    spec = gptzoo.load_model_spec(
        small(bias=False, dropout=0.25, activation="relu", attention={"type": "sdpa", "qk_norm": "layernorm"})
    )
    attention, ffn = spec.attention, spec.ffn
    assert (attention.qkv_bias, attention.out_bias, ffn.bias, spec.norm.layer.bias) == (False,) * 4
    assert attention.qk_norm.bias is False
    assert (attention.dropout, attention.out_dropout, ffn.dropout, spec.architecture.embed_dropout) == (0.25,) * 4
    assert ffn.activation == spec.activation
    assert spec.architecture.head_bias is False


def test_each_component_can_override_inherited_values() -> None:
    spec = gptzoo.load_model_spec(
        small(
            bias=False,
            dropout=0.25,
            activation="relu",
            attention={
                "type": "sdpa",
                "qkv_bias": True,
                "dropout": 0.0,
                "qk_norm": {"type": "layernorm", "bias": True},
            },
            ffn={"type": "mlp", "bias": True, "dropout": 0.5, "activation": {"type": "gelu", "approximate": "tanh"}},
            norm={"type": "pre_ln", "layer": {"type": "layernorm", "bias": True}},
            architecture={"type": "decoder", "embed_dropout": 0.0},
        )
    )
    assert (spec.attention.qkv_bias, spec.attention.out_bias, spec.attention.qk_norm.bias) == (True, False, True)
    assert (spec.attention.dropout, spec.attention.out_dropout) == (0.0, 0.25)
    assert (spec.ffn.bias, spec.ffn.dropout, spec.ffn.activation.approximate) == (True, 0.5, "tanh")
    assert spec.norm.layer.bias is True
    assert spec.architecture.embed_dropout == 0.0


def test_null_inherits() -> None:
    written = {"type": "sdpa", "dropout": None, "n_kv_heads": None, "qkv_bias": None}
    assert gptzoo.load_model_spec(small(attention=written)) == gptzoo.load_model_spec(small())


def test_items_of_a_list_inherit_too() -> None:
    spec = gptzoo.load_model_spec(small(ffn=["mlp", {"type": "glu", "bias": True}], bias=False))
    assert [ffn.bias for ffn in spec.ffn] == [False, True]


# ---------------------------------------------------------------------- wrong fields


def test_errors_for_unknown_fields_suggest_a_similar_one_at_any_depth() -> None:
    wrong = small(
        dropuot=0.1,
        attention={"type": "sdpa", "droput": 0.1, "qk_norm": {"type": "rmsnorm", "esp": 1e-6}},
        ffn=["mlp", {"type": "glu", "activation": {"type": "gelu", "aproximate": "tanh"}}],
        norm={"type": "pre_ln", "layr": "rmsnorm"},
    )
    assert problems(wrong) == [
        "$.dropuot: no field named 'dropuot'; did you mean 'dropout'?",
        "$.attention.droput: 'sdpa' has no option 'droput'; did you mean 'dropout'?",
        "$.attention.qk_norm.esp: 'rmsnorm' has no option 'esp'; did you mean 'eps'?",
        "$.norm.layr: 'pre_ln' has no option 'layr'; did you mean 'layer'?",
        "$.ffn[1].activation.aproximate: 'gelu' has no option 'aproximate'; did you mean 'approximate'?",
    ]


def test_all_missing_fields_are_reported_together() -> None:
    assert problems({}) == [f"$.{field}: is required" for field in ("context_length", "d_model", "n_layers", "n_heads")]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("d_model", "32", "should be a valid integer"),
        ("n_layers", True, "should be a valid integer"),
        ("n_heads", 1.5, "should be a valid integer"),
        ("n_heads", 4.0, "should be a valid integer"),
        ("context_length", 0, "should be greater than 0"),
        ("vocab_size", -5, "should be greater than 0"),
        ("dropout", "0.1", "should be a valid number"),
        ("dropout", True, "should be a valid number"),
        ("dropout", 1.0, "should be less than 1"),
        ("dropout", -0.1, "should be greater than or equal to 0"),
        ("dropout", float("nan"), "should be a finite number"),
        ("dropout", float("inf"), "should be a finite number"),
        ("bias", 1, "should be a valid boolean"),
        ("bias", "true", "should be a valid boolean"),
        ("tie_embeddings", None, "should be a valid boolean"),
        ("name", 3, "should be a valid string"),
        ("spec_version", 2, "should be 1"),
    ],
)
def test_values_of_a_wrong_type_or_range_are_errors(field: str, value: Any, reason: str) -> None:
    assert problems(small() | {field: value}) == [f"$.{field}: {reason}"]


@pytest.mark.usefixtures("fresh_registry")
def test_the_error_for_an_unknown_component_lists_all_and_suggests_one() -> None:
    (problem,) = problems(small(positional="roep"))
    assert problem.startswith(
        "$.positional: no positional named 'roep'; did you mean 'rope'?  (known: learned, none, rope, sinusoidal)"
    )


# ---------------------------------------------------------------------- rules across fields


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"n_heads": 5}, ["$.n_heads: must divide d_model 32, got 5"]),
        (
            {"attention": {"type": "sdpa", "n_kv_heads": 3}},
            ["$.attention.n_kv_heads: must divide the number of query heads, 4, got 3"],
        ),
        (
            {"attention": {"type": "sdpa", "n_kv_heads": 8}},
            ["$.attention.n_kv_heads: must divide the number of query heads, 4, got 8"],
        ),
        (
            {"attention": ["sdpa", {"type": "naive", "window": 17}]},
            ["$.attention[1].window: must not exceed context_length 16, got 17; use null for no window"],
        ),
        (
            {"attention": {"type": "sdpa", "dropout": 1.0, "out_dropout": -0.5}},
            [
                "$.attention.dropout: should be at least 0 and below 1",
                "$.attention.out_dropout: should be at least 0 and below 1",
            ],
        ),
        (
            {"positional": "rope", "d_model": 12},
            ["$.positional: rotates pairs, so the width of a head must be even, got 3"],
        ),
        (
            {"positional": ["none", "rope"], "d_model": 12},
            ["$.positional[1]: rotates pairs, so the width of a head must be even, got 3"],
        ),
        (
            {"positional": "sinusoidal", "d_model": 9, "n_heads": 1},
            ["$.positional: pairs sines with cosines, so d_model must be even, got 9"],
        ),
        (
            {"positional": "rope", "d_model": 12, "attention": {"type": "sdpa", "n_kv_heads": 3, "window": 99}},
            [
                "$.attention.n_kv_heads: must divide the number of query heads, 4, got 3",
                "$.attention.window: must not exceed context_length 16, got 99; use null for no window",
                "$.positional: rotates pairs, so the width of a head must be even, got 3",
            ],
        ),
    ],
    ids=str,
)
def test_rules_across_fields_name_the_field_to_change(change: dict[str, Any], messages: list[str]) -> None:
    assert problems(small(**change)) == messages


def test_values_at_the_limits_are_valid() -> None:
    for change in (
        {"attention": {"type": "sdpa", "window": 16}},
        {"attention": {"type": "sdpa", "n_kv_heads": 4}},
        {"positional": "learned", "d_model": 12},
        {"n_heads": 32},
        {"dropout": 0.0},
        {"attention": ["naive", "sdpa"]},
    ):
        spec = gptzoo.load_model_spec(small(**change))
        assert gptzoo.load_model_spec(spec.resolved()) == spec


class Slopes(Positional):
    """Adds a score bias."""

    name = "slopes"

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor | None:
        return None


class SlopesAndRotation(Slopes):
    """Adds a score bias and rotates."""

    name = "slopes_and_rotation"

    def rotate(self, q: Tensor, k: Tensor, tables: Any) -> tuple[Tensor, Tensor]:
        return q, k


class Linear(gptzoo.Attention):
    """Supports neither rotation nor bias."""

    name = "linear"


class Rotating(gptzoo.Attention):
    """Supports rotation."""

    name = "rotating"
    supports = frozenset({"rotate"})


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(
    ("attention", "positional", "messages"),
    [
        ("linear", "slopes", ["$.positional: 'slopes' adds a score bias, which attention 'linear' does not support"]),
        (
            "linear",
            "rope",
            ["$.positional: 'rope' rotates queries and keys, which attention 'linear' does not support"],
        ),
        (
            "linear",
            "slopes_and_rotation",
            [
                "$.positional: 'slopes_and_rotation' adds a score bias and rotates queries and keys, "
                "which attention 'linear' does not support"
            ],
        ),
        (
            "rotating",
            "slopes_and_rotation",
            ["$.positional: 'slopes_and_rotation' adds a score bias, which attention 'rotating' does not support"],
        ),
        ("rotating", "rope", []),
        ("linear", "learned", []),
        ("linear", "none", []),
        ("sdpa", "slopes_and_rotation", []),
        (
            ["sdpa", "linear"],
            ["none", "rope"],
            ["$.positional[1]: 'rope' rotates queries and keys, which attention 'linear' does not support"],
        ),
        (["sdpa", "linear"], ["rope", "none"], []),  # no layer has both
        (
            ["sdpa", "linear"],
            "rope",
            ["$.positional: 'rope' rotates queries and keys, which attention 'linear' does not support"],
        ),
    ],
)
def test_the_attention_of_a_layer_must_support_its_positional(
    attention: Any, positional: Any, messages: list[str]
) -> None:
    admit(Slopes, SlopesAndRotation, Linear, Rotating)
    spec = small(n_layers=4, attention=attention, positional=positional)
    if messages:
        assert problems(spec) == messages
    else:
        gptzoo.load_model_spec(spec)


# ---------------------------------------------------------------------- sizes


def test_dims_are_the_sizes_of_the_model() -> None:
    dims = gptzoo.load_model_spec(small()).dims
    assert dims == Dims(vocab_size=13, context_length=16, d_model=32, n_layers=2, n_heads=4)
    assert dims.d_head == 8


def test_a_spec_without_vocab_size_is_valid_but_has_no_dims() -> None:
    spec = gptzoo.load_model_spec(small(vocab_size=None))
    assert spec.vocab_size is None
    with pytest.raises(ValueError, match="the spec has no vocab_size yet"):
        _ = spec.dims
