"""Choices that name nothing are errors; rules between valid choices exclude combinations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import gptzoo
from gptzoo.cli import main

MODEL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 16, "n_layers": 2, "n_heads": 2}
RUN: dict[str, Any] = {"model": MODEL, "batch_size": 4, "steps": 6, "device": "cpu"}


@pytest.mark.parametrize(
    ("axes", "match"),
    [
        ({"model.norm": ["pre_ln", "post_nl"]}, r"\$\.model\.norm: no norm named 'post_nl'; did you mean 'post_ln'"),
        ({"model.attention": [{"type": "sdpa", "windw": 4}]}, "'sdpa' has no option 'windw'; did you mean 'window'"),
        ({"model.attention": [["sdpa", "nave"]]}, r"\$\.model\.attention: 1: no attention named 'nave'"),
        ({"model.attention.windw": [4, 8]}, "no component has an option 'windw'; did you mean 'window'"),
        ({"optimizer.learning_rate": [1e-3]}, "no component has an option 'learning_rate'; did you mean 'lr'"),
        ({"learning_rate": [1e-3]}, "no field named 'learning_rate'; did you mean 'optimizer.lr'"),
        ({"n_layer": [1, 2]}, "no field named 'n_layer'; did you mean 'model.n_layers'"),
        ({"model.n_layers": [1, "two"]}, r"\$\.model\.n_layers: should be a valid integer"),
        ({"model.attention.window": [-1]}, r"\$\.model\.attention\.window: should be greater than"),
        ({"optimizer.lr": [1e-3, -1.0]}, r"\$\.optimizer\.lr: should be greater than 0"),
        ({"swiglu": {"choices": {"yes": {"model.ffn": "glu", "model.activation": "sillu"}}}}, "did you mean 'silu'"),
        ({"early_stopping.patience": [0]}, "should be greater than 0"),
        ({"model.ffn.0": ["mlp"], "model.norm": ["no_ln"]}, "no norm named 'no_ln'"),
    ],
)
def test_a_choice_that_is_valid_in_no_spec_is_an_error(axes: dict[str, Any], match: str) -> None:
    with pytest.raises(gptzoo.SpecError, match=match):
        gptzoo.variants({**RUN, "model": {**MODEL, "ffn": ["mlp", "glu"]}}, axes)


def test_all_errors_are_reported_together_and_once() -> None:
    with pytest.raises(gptzoo.SpecError) as error:
        gptzoo.variants(MODEL, {"norm": ["post_nl", "pre_ln"], "positional": ["roep", "none"]})
    assert [problem.path for problem in error.value.problems] == ["$.norm", "$.positional"]


def test_rules_between_valid_choices_still_exclude_combinations() -> None:
    variants = gptzoo.variants(MODEL, {"n_heads": [2, 3, 4], "positional": ["rope", "none"]})
    assert len(variants) == 4
    assert {exclusion.reason for exclusion in variants.exclusions} == {"$.n_heads: must divide d_model 16, got 3"}


def test_an_option_that_only_another_component_of_the_design_has_excludes_combinations() -> None:
    variants = gptzoo.variants(
        {**MODEL, "attention": "sdpa"}, {"attention": ["sdpa", "naive"], "attention.n_kv_heads": [1, 2]}
    )
    assert len(variants) + len(variants.exclusions) == 4
    options = gptzoo.variants(MODEL, {"ffn": ["mlp", "glu"], "ffn.multiplier": [2.0, 4.0]})
    assert len(options) + len(options.exclusions) == 4


def test_ablate_ends_before_anything_is_trained(tmp_path: Path) -> None:
    file = tmp_path / "ablation.json"
    file.write_text(json.dumps({"name": "typo", "base": RUN, "axes": {"model.norm": ["pre_ln", "post_nl"]}}))
    for options in ([], ["--dry-run"]):
        result = CliRunner().invoke(main, ["ablate", str(file), "--out", str(tmp_path / "out"), *options])
        assert result.exit_code == 2
        assert "$.model.norm: no norm named 'post_nl'" in result.output
        assert not (tmp_path / "out").exists()
