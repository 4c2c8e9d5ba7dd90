"""A spec is exported to the family that computes the same function; otherwise the differences are named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

import gptzoo
from gptzoo.interop.export import NativeExport, NoFamilyError, native_export
from gptzoo.interop.exporting.invert_weights import SourceTensors
from gptzoo.interop.importer import Weight, source_rows, transpose

SIZES = {"vocab_size": 61, "context_length": 32, "d_model": 32, "n_layers": 2, "n_heads": 4}
LLAMA = {
    "attention": {"type": "sdpa", "n_kv_heads": 2},
    "positional": "rope",
    "norm": {"type": "pre_ln", "layer": "rmsnorm"},
    "ffn": "glu",
    "activation": "silu",
    "bias": False,
}


def spec(**options: Any) -> gptzoo.ModelSpec:
    return gptzoo.load_model_spec({**SIZES, **options})


def random_model(model_spec: gptzoo.ModelSpec) -> Any:
    """Return a model whose biases and norm weights are random, too."""
    model = gptzoo.build(model_spec).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def in_transformers(export: NativeExport, model: Any) -> Any:
    """Return the exported model in transformers. Each of its tensors is in the export."""
    settings = dict(export.settings)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings)).eval()
    missing, unexpected = theirs.load_state_dict(dict(export.tensors(model.state_dict())), strict=False)
    assert (set(missing), unexpected) == ({"lm_head.weight"} if export.spec.tie_embeddings else set(), [])
    theirs.tie_weights()
    return theirs


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("gpt2", {}),
        ("gpt2", {"tie_embeddings": False, "activation": {"type": "gelu", "approximate": "tanh"}}),
        ("gpt2", {"attention": "naive", "ffn": {"type": "mlp", "multiplier": 2.3}, "activation": "relu"}),
        ("llama", LLAMA),
        ("llama", {**LLAMA, "attention": ["naive", "sdpa"], "d_head": 10, "tie_embeddings": False}),
        ("llama", {**LLAMA, "bias": True, "positional": {"type": "rope", "theta": 50.0}}),
        ("llama", {**LLAMA, "attention": {"type": "naive", "n_kv_heads": 1, "scale": 8**-0.5}}),
        *(
            ("llama", {**LLAMA, "positional": {"type": "rope", "scaling": {"factor": 4, **scaling}}})
            for scaling in (
                {"type": "linear"},
                {"type": "yarn"},
                {"type": "yarn", "original_context_length": 8, "attention_factor": 1.5, "truncate": False},
                {"type": "llama3", "original_context_length": 8},
                {"type": "ntk"},
            )
        ),
        ("llama", {**LLAMA, "positional": {"type": "rope", "theta": 50.0, "scaling": {"type": "ntk", "factor": 8}}}),
    ],
)
def test_transformers_computes_the_same_logits(family: str, options: dict[str, Any]) -> None:
    model = random_model(spec(**options))
    export = native_export(model.spec)
    assert export.family == family
    theirs = in_transformers(export, model)
    tokens = torch.randint(0, 61, (2, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(tokens).logits
        assert expected.std() > 0.1
        torch.testing.assert_close(model(tokens)[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "options", "path"),
    [
        ("llama", {**LLAMA, "attention": {"type": "sdpa", "window": 8}}, "$.attention.window"),
        ("llama", {**LLAMA, "attention": ["sdpa", {"type": "sdpa", "window": 8}]}, "$.attention[1].window"),
        ("llama", {**LLAMA, "attention": {"type": "sdpa", "qk_norm": "rmsnorm"}}, "$.attention.qk_norm"),
        ("llama", {**LLAMA, "attention": {"type": "sdpa", "qkv_bias": True}}, "$.attention.out_bias"),
        ("llama", {**LLAMA, "positional": {"type": "rope", "fraction": 0.5}}, "$.positional.fraction"),
        ("llama", {**LLAMA, "positional": ["rope", "none"]}, "$.positional[1]"),
        ("llama", {**LLAMA, "norm": {"type": "post_ln", "layer": "rmsnorm"}}, "$.norm"),
        ("llama", {**LLAMA, "architecture": {"type": "decoder", "head_bias": True}}, "$.architecture.head_bias"),
        ("gpt2", {"d_head": 10}, "$.d_head"),
        ("gpt2", {"norm": {"type": "pre_ln", "layer": {"type": "layernorm", "bias": False}}}, "$.norm.layer.bias"),
        ("gpt2", {"norm": {"type": "pre_ln", "embedding_norm": True}}, "$.norm.embedding_norm"),
        ("gpt2", {"positional": "rope"}, "$.positional"),
        ("gpt2", {"attention": {"type": "sdpa", "scale": 0.1}}, "$.attention.scale"),
    ],
)
def test_a_family_is_refused_with_the_field_that_it_cannot_represent(
    family: str, options: dict[str, Any], path: str
) -> None:
    with pytest.raises(NoFamilyError) as raised:
        native_export(spec(**options), family)
    assert [problem.path for problem in raised.value.problems] == [path]
    assert f"{family}: {path}: the spec has " in str(raised.value)


def test_ntk_scaling_is_exported_as_a_larger_base() -> None:
    """As bloc97 defined it: theta * factor^(R / (R - 2)), with the head width R = 8."""
    rope = {"type": "rope", "theta": 100.0, "scaling": {"type": "ntk", "factor": 4.0}}
    export = native_export(spec(**{**LLAMA, "positional": rope}))
    assert export.settings["rope_theta"] == pytest.approx(100.0 * 4.0 ** (8 / 6))
    assert "rope_scaling" not in export.settings
    assert export.notes == ("$.positional.scaling ntk becomes the base 634.96 of llama, with the same frequencies",)


def test_options_that_act_in_training_only_are_no_reason_to_refuse_and_are_named_if_they_are_lost() -> None:
    export = native_export(spec(**LLAMA, dropout=0.1, architecture={"type": "decoder", "init_std": 0.5}))
    assert export.family == "llama"
    assert (export.settings["attention_dropout"], export.settings["initializer_range"]) == (0.1, 0.5)
    assert [note.split()[0] for note in export.notes] == [
        "$.architecture.embed_dropout",
        "$.attention.out_dropout",
        "$.ffn.dropout",
    ]


def test_an_unknown_family_is_named_with_the_known_ones() -> None:
    with pytest.raises(gptzoo.SpecError, match=r"no family 'lama' to export to  .*llama"):
        native_export(spec(), "lama")


class TestConversions:
    """The tensors of a checkpoint follow from the conversions of an import."""

    def round_trip(self, weights: list[Weight], sources: dict[str, Tensor]) -> dict[str, Tensor]:
        state = {w.name: w.convert(*(sources[name] for name in w.source_names)) for w in weights}
        return dict(SourceTensors(weights, state))

    @pytest.mark.parametrize(
        ("weights", "shapes"),
        [
            ([Weight("a", "x")], {"x": (3, 4)}),
            ([Weight("a", "x", transpose)], {"x": (3, 4)}),
            ([Weight("a", "x", transpose)], {"x": (4, 4)}),
            ([Weight("a", ("x", "y"))], {"x": (3, 4), "y": (3, 4)}),
            ([Weight("a", ("x", "y"), shapes=source_rows(1, 5))], {"x": (1, 4), "y": (5, 4)}),
            ([Weight("a", "x", lambda x: x.flip(1))], {"x": (3, 4)}),
            ([Weight("a", "x", lambda x: x.flip(0))], {"x": (5,)}),
            (
                [
                    Weight("a", "x", lambda x: x[0], shapes=lambda s, _: [(2, *s)]),
                    Weight("b", "x", lambda x: x[1], shapes=lambda s, _: [(2, *s)]),
                ],
                {"x": (2, 3, 4)},
            ),
            (
                [
                    Weight("a", ("x", "y"), lambda x, y: torch.cat([x[:2], y]), shapes=source_rows(3, 2)),
                    Weight("b", "x", lambda x: x[2:], shapes=source_rows(3)),
                ],
                {"x": (3, 4), "y": (2, 4)},
            ),
        ],
    )
    def test_conversions_that_move_elements_are_inverted_bit_for_bit(
        self, weights: list[Weight], shapes: dict[str, tuple[int, ...]]
    ) -> None:
        sources = {
            name: torch.randn(shape, generator=torch.Generator().manual_seed(3)) for name, shape in shapes.items()
        }
        again = self.round_trip(weights, sources)
        assert again.keys() == sources.keys()
        assert all(torch.equal(again[name], sources[name]) for name in sources)

    def test_dropped_elements_are_zero(self) -> None:
        again = self.round_trip([Weight("a", "x", lambda x: x[2:], shapes=source_rows(5))], {"x": torch.ones(5, 2)})
        assert again["x"].tolist() == [[0.0, 0.0]] * 2 + [[1.0, 1.0]] * 3

    def test_a_conversion_that_computes_has_its_own_inverse(self) -> None:
        weight = Weight("a", "x", lambda x: x + 1, inverse=lambda a: a - 1)
        assert self.round_trip([weight], {"x": torch.tensor([0.5, -0.25])})["x"].tolist() == [0.5, -0.25]

    @pytest.mark.parametrize(
        "weight",
        [
            Weight("a", "x", lambda x: x + 1),
            Weight("a", "x", lambda x: x * 2),
            Weight("a", "x", lambda x: x + 1, inverse=lambda a: a - 2),
        ],
    )
    def test_what_cannot_be_inverted_is_refused(self, weight: Weight) -> None:
        with pytest.raises(gptzoo.PluginError, match="inverse"):
            self.round_trip([weight], {"x": torch.tensor([[0.5, 3.0], [1.0, 2.0], [0.0, 7.0]])})

    def test_a_nan_is_exported(self) -> None:
        assert self.round_trip([Weight("a", "x")], {"x": torch.tensor([float("nan")])})["x"].isnan().all()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_defaults_of_a_family_are_exported_to_it(family: str) -> None:
    importer: Any = gptzoo.registered("importer")[family].Config().build()
    defaults = gptzoo.load_model_spec(importer.spec(gptzoo.Settings({})))
    assert native_export(defaults).family == family
