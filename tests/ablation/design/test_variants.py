"""`variants` enumerates valid specs, each once, and gives a reason for each exclusion."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from support import admit

import gptzoo
from gptzoo import registry
from gptzoo.ablation.design.axes import label_of
from gptzoo.ablation.design.enumeration import spec_digest
from gptzoo.ablation.design.points import points

RUN = {
    "model": {"context_length": 16, "d_model": 16, "n_layers": 2, "n_heads": 2},
    "batch_size": 4,
    "steps": 6,
    "device": "cpu",
}
MODEL = {"vocab_size": 13, **RUN["model"]}  # type: ignore[dict-item]
FOUR = {
    "model.attention": ["naive", "sdpa"],
    "model.positional": ["learned", "rope", "none"],
    "model.norm": ["pre_ln", "post_ln"],
    "model.activation": ["gelu", "relu"],
}


def assert_refused(match: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises(gptzoo.SpecError, match=match):
        gptzoo.variants(*arguments, **options)


def test_a_grid_has_every_combination_and_each_spec_equals_one_written_by_hand() -> None:
    variants = gptzoo.variants(RUN, FOUR)
    assert len(variants) == 24
    assert variants.complete
    assert {variant.name for variant in variants} >= {"naive-rope-post_ln-relu", "sdpa-none-pre_ln-gelu"}
    by_hand = {
        (a, p, n, c): gptzoo.load_run_spec(
            RUN, [f"model.attention={a}", f"model.positional={p}", f"model.norm={n}", f"model.activation={c}"]
        )
        for a, p, n, c in itertools.product(*FOUR.values())
    }
    for variant in variants:
        expected = by_hand[tuple(variant.choices.values())]  # type: ignore[index]
        assert variant.spec.model_copy(update={"name": expected.name}) == expected


def test_variants_of_a_model_spec_are_model_specs() -> None:
    variants = gptzoo.variants(MODEL, {"attention": "*", "n_heads": [2, 4]})
    assert {type(variant.spec) for variant in variants} == {gptzoo.ModelSpec}
    assert [variant.name for variant in variants] == [
        "naive-n_heads=2",
        "naive-n_heads=4",
        "sdpa-n_heads=2",
        "sdpa-n_heads=4",
    ]
    assert variants.baseline == "sdpa-n_heads=2"  # the choices of the base itself


def test_a_star_means_every_registered_component_including_those_of_plugins(fresh_registry: Any) -> None:
    class Cube(gptzoo.Activation):
        """x cubed."""

        name = "cube"

    admit(Cube)
    variants = gptzoo.variants(MODEL, {"activation": "*"})
    assert set(variants.axes["activation"]) == set(gptzoo.registered("activation"))
    assert "cube" in {variant.name for variant in variants}


def test_a_star_keeps_the_options_of_the_base_s_component() -> None:
    base = {**MODEL, "attention": {"type": "sdpa", "window": 4}}
    variants = gptzoo.variants(base, {"attention": "*"})
    windows = {variant.name: variant.spec.attention.window for variant in variants}
    assert windows == {"naive": None, "sdpa": 4}
    assert variants.baseline == "sdpa"


def test_a_point_that_is_no_valid_spec_is_excluded_with_the_reason() -> None:
    variants = gptzoo.variants(MODEL, {"n_heads": [2, 3], "positional": ["rope", "learned"]})
    assert [variant.name for variant in variants] == ["n_heads=2-rope", "n_heads=2-learned"]
    assert [exclusion.choices["n_heads"] for exclusion in variants.exclusions] == ["3", "3"]
    assert variants.exclusions[0].reason == "$.n_heads: must divide d_model 16, got 3"


def test_points_with_equal_specs_are_one_variant() -> None:
    variants = gptzoo.variants(
        MODEL, {"ffn": {"choices": {"default": "mlp", "spelt": {"type": "mlp", "multiplier": 4.0}, "glu": "glu"}}}
    )
    assert [variant.name for variant in variants] == ["default", "glu"]
    assert variants[0].merged == ({"ffn": "spelt"},)
    assert not variants.complete


def test_one_at_a_time_has_the_baseline_and_each_single_change() -> None:
    variants = gptzoo.variants(RUN, FOUR, mode="one_at_a_time")
    assert [variant.name for variant in variants] == ["baseline", "naive", "rope", "none", "post_ln", "relu"]
    base = variants[0]
    for variant in variants[1:]:
        assert sum(variant.choices[axis] != base.choices[axis] for axis in FOUR) == 1


def test_paired_axes_change_together() -> None:
    variants = gptzoo.variants(RUN, {"model.d_model": [16, 32], "optimizer.lr": [0.01, 0.005]}, mode="paired")
    assert [(variant.spec.model.d_model, variant.spec.optimizer.lr) for variant in variants] == [
        (16, 0.01),
        (32, 0.005),
    ]
    assert_refused(
        "the axes of mode 'paired' must have equal numbers of choices; these have 2, 3", RUN, {**FOUR}, mode="paired"
    )


def test_random_draws_n_valid_variants_and_depends_on_the_seed() -> None:
    axes = {**FOUR, "model.n_heads": [1, 2, 3]}
    variants, again = (gptzoo.variants(RUN, axes, mode="random", n=9, seed=4) for _ in range(2))
    assert [variant.choices for variant in variants] == [variant.choices for variant in again]
    assert 9 <= len(variants) <= 10  # the baseline is added if it was not drawn
    assert variants.baseline in {variant.name for variant in variants}
    other = gptzoo.variants(RUN, axes, mode="random", n=9, seed=5)
    assert [variant.choices for variant in variants] != [variant.choices for variant in other]


def test_random_draws_from_a_huge_grid_without_enumerating_it() -> None:
    drawn = points("random", [10] * 12, (0,) * 12, n=3, seed=1)
    assert len(set(itertools.islice(drawn, 50))) == 50


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 3))
def test_random_yields_every_point_once(sizes: list[int], seed: int) -> None:
    drawn = list(points("random", sizes, (0,) * len(sizes), n=None, seed=seed))
    assert sorted(drawn) == sorted(points("grid", sizes, (0,) * len(sizes), n=None, seed=0))


@given(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.integers(1, 4), st.integers(0, 3))
def test_latin_has_each_choice_as_often_as_any_other(sizes: list[int], times: int, seed: int) -> None:
    n = times * max(sizes)
    drawn = list(points("latin", sizes, (0,) * len(sizes), n=n, seed=seed))
    if len(drawn) == n:  # in a small grid, points may coincide
        for axis, size in enumerate(sizes):
            counts = Counter(point[axis] for point in drawn)
            assert len(counts) == size
            assert max(counts.values()) - min(counts.values()) <= 1


def test_an_axis_can_depend_on_the_choice_of_another() -> None:
    axes = {
        "model.attention": ["naive", "sdpa"],
        "model.attention.window": {"choices": [None, 4], "when": {"model.attention": "sdpa"}},
    }
    variants = gptzoo.variants(RUN, axes)
    assert [variant.name for variant in variants] == ["naive", "sdpa-window=null", "sdpa-window=4"]
    assert variants[0].choices == {"model.attention": "naive"}


def test_conditions_exclude_points_with_the_given_reason() -> None:
    exclude = [{"when": {"model.positional": ["rope", "none"], "model.norm": "post_ln"}, "because": "known to fail"}]
    variants = gptzoo.variants(RUN, FOUR, exclude=exclude)
    assert (len(variants), len(variants.exclusions)) == (16, 8)
    assert {exclusion.reason for exclusion in variants.exclusions} == {"known to fail"}


def test_an_axis_of_several_fields_sets_them_together() -> None:
    choices = {
        "relu": {"model.ffn": "mlp", "model.activation": "relu"},
        "swiglu": {"model.ffn": {"type": "glu", "d_ff": 40}, "model.activation": "silu"},
    }
    variants = gptzoo.variants(RUN, {"feed-forward": {"choices": choices}, "model.ffn.dropout": [0.0, 0.1]})
    assert variants[-1].name == "swiglu-dropout=0.1"
    ffn = variants[-1].spec.model.ffn
    assert (ffn.type, ffn.d_ff, ffn.activation.type, ffn.dropout) == ("glu", 40, "silu", 0.1)


def test_a_baseline_can_be_chosen_and_must_be_a_valid_spec() -> None:
    assert gptzoo.variants(RUN, FOUR, baseline={"model.positional": "rope"}).baseline == "sdpa-rope-pre_ln-gelu"
    assert_refused(
        "the baseline is excluded: .*n_heads: must divide",
        RUN,
        {"model.n_heads": [3, 2]},
        baseline={"model.n_heads": 3},
    )


def test_an_option_that_was_added_later_changes_the_digest_only_if_it_is_set(fresh_registry: Any) -> None:
    """Trials that an older version planned keep their folders."""

    def attention(**options: Any) -> Any:
        class Gated(gptzoo.SdpaAttention):
            """An attention of which a later version has one more option."""

            name = "gated_sdpa"
            Config = type("Config", (gptzoo.SdpaAttention.Config,), options)  # type: ignore[assignment]

        return Gated

    def digest(component: Any, *overrides: str) -> str:
        with registry.use(registry.discover("none")):
            admit(component)
            return spec_digest(gptzoo.load_run_spec({**RUN, "model": {**MODEL, "attention": "gated_sdpa"}}, overrides))

    added = {
        "__annotations__": {"sharpness": float},
        "sharpness": Field(default=1.0, json_schema_extra={"added": True}),
    }
    older, newer = attention(), attention(**added)
    assert digest(older) == digest(newer) == digest(newer, "model.attention.sharpness=1.0")
    assert digest(newer, "model.attention.sharpness=2.0") != digest(older)
    both = '["gated_sdpa", {"type": "gated_sdpa", "sharpness": 3.0}]'
    assert digest(newer, f"model.attention={both}") != digest(older)


def test_the_digest_ignores_names_and_nothing_else() -> None:
    spec = gptzoo.load_run_spec(RUN)
    assert spec_digest(spec) == spec_digest(gptzoo.load_run_spec(RUN, ["name=other", "model.name=another"]))
    assert spec_digest(spec) != spec_digest(gptzoo.load_run_spec(RUN, ["seed=2"]))


@pytest.mark.parametrize(
    ("axes", "options", "reason"),
    [
        ({"model.nrom": ["pre_ln"]}, {}, r"\$.model.nrom: no field named 'nrom'; did you mean 'norm'"),
        ({"modle.norm": ["pre_ln"]}, {}, "no field named 'modle'; did you mean 'model'"),
        ({"model.dropout": "*"}, {}, r'"\*" is for a field that names a component'),
        ({"model.norm": ["pre_ln", "pre_ln"]}, {}, "two choices have the label 'pre_ln'"),
        ({"model.norm": []}, {}, "an axis needs at least one choice"),
        ({"model.norm": "pre_ln"}, {}, "model.norm"),
        (FOUR, {"baseline": {"model.norm": "pre_nl"}}, "axis 'model.norm' has no choice 'pre_nl'"),
        (
            FOUR,
            {"exclude": [{"when": {"model.nrom": "x"}}]},
            "there is no axis 'model.nrom'; did you mean 'model.norm'",
        ),
    ],
)
def test_an_error_about_axes_names_the_place(axes: Any, options: Any, reason: str) -> None:
    assert_refused(reason, RUN, axes, **options)


def test_enumeration_gives_the_specs_and_hashes_of_specs_read_one_by_one() -> None:
    layers = ["mlp", {"type": "glu", "activation": "relu"}]
    axes = {**FOUR, "model.ffn": ["glu", layers], "optimizer": ["sgd", {"type": "muon", "momentum": 0.9}]}
    found = gptzoo.variants(RUN, axes)
    for variant in found:
        data = copy.deepcopy(RUN)
        for name, label in variant.choices.items():
            value = next(value for value in axes[name] if label in (value, label_of(value)))
            place = data["model"] if name.startswith("model.") else data
            place[name.removeprefix("model.")] = value  # type: ignore[index]
        spec = gptzoo.RunSpec.model_validate(data)
        assert variant.spec.resolved() == {**spec.resolved(), "name": variant.name}
        resolved = spec.resolved()
        del resolved["name"], resolved["model"]["name"]
        del resolved["model"]["parametrisation"]  # null, which keeps the hashes of older versions
        text = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
        assert variant.digest == hashlib.sha256(text.encode()).hexdigest()
