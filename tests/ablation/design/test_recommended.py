"""Recommended settings: what components declare, what axes take along, and what a comparison leaves out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from outcomes import outcome, variant
from pydantic import PositiveFloat
from support import admit
from torch import Tensor, nn

import gptzoo
from gptzoo import registry
from gptzoo.ablation.planning.folder import write_plan
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.planning.plan_types import Plan, PlannedVariant
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.ablation.terminal.print_outcome import outcome_as_dict
from gptzoo.cli import main
from gptzoo.spec.components_in_spec import recommendations_in

SCALE = "model.architecture.embed_scale"
PAPER = "Somebody 2024, section 3"
BASE: dict[str, Any] = {
    "model": {"context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 2},
    "corpus": {"type": "stories", "n_stories": 40},
    "optimizer": {"type": "adamw", "lr": 0.004},
    "batch_size": 4,
    "steps": 4,
    "eval": {"every": 2},
    "device": "cpu",
    "sample": {"max_new_tokens": 0},
}


class Loud(gptzoo.Norm):
    """Adds the norm of each sublayer's output."""

    name = "loud"

    class Config(gptzoo.Norm.Config):
        strength: PositiveFloat = 1.0
        """Factor on the recommended scale."""

        def recommended(self, model: Mapping[str, Any]) -> Iterator[gptzoo.Recommended]:
            yield gptzoo.Recommended(SCALE, PAPER, value=self.strength * model["d_model"] ** 0.5)
            yield gptzoo.Recommended("optimizer.lr", PAPER, factor=0.5)

    config: Config

    def forward(self, x: Tensor, sublayers: Any) -> Tensor:
        for name, sublayer in sublayers.items():
            x = x + self.layers[name](sublayer(x))
        return x


class Quiet(gptzoo.FeedForward):
    """A network that recommends another scale, and a field that does not exist."""

    name = "quiet"

    class Config(gptzoo.FeedForward.Config):
        def recommended(self, model: Mapping[str, Any]) -> Iterator[gptzoo.Recommended]:
            yield gptzoo.Recommended(SCALE, PAPER, value=3.0)
            yield gptzoo.Recommended("model.architecture.warmth", PAPER, value=1)

    config: Config

    def __init__(self, config: Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.up = nn.Linear(dims.d_model, dims.d_model)

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        y: Tensor = self.up(x)
        return y


@pytest.fixture(autouse=True)
def plugins(fresh_registry: registry.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    admit(Loud, Quiet)


def plan_of(folder: Path, axes: Mapping[str, Any], base: Mapping[str, Any] = BASE, **fields: Any) -> Plan:
    data = {"name": "test", "base": dict(base), "axes": dict(axes), "seeds": 2, "mode": "one_at_a_time", **fields}
    return make_plan(gptzoo.load_ablation_spec(data), folder)


def planned(plan: Plan, name: str) -> PlannedVariant:
    (found,) = (variant for variant in plan.variants if variant.name == name)
    return found


def settings(of: PlannedVariant) -> tuple[float, float]:
    """The scale of the embeddings and the learning rate."""
    return of.spec.model.architecture.embed_scale, of.spec.optimizer.lr


def test_an_axis_takes_along_what_the_chosen_components_recommend(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "a", {"model.norm": ["pre_ln", "loud", {"type": "loud", "strength": 2.0}]})
    baseline, loud, louder = plan.variants
    assert settings(baseline) == (1.0, 0.004)
    assert settings(loud) == (pytest.approx(32**0.5), pytest.approx(0.002))
    assert settings(louder) == (pytest.approx(2 * 32**0.5), pytest.approx(0.002))
    assert not baseline.recommended
    assert [text.partition(" (")[0] for text in loud.recommended] == [
        f"norm 'loud' with {SCALE} 5.657",
        "norm 'loud' with optimizer.lr times 0.5",
    ]
    assert all(PAPER in text for text in loud.recommended)
    assert [*loud.left_out, *baseline.left_out, *plan.warnings] == []


def test_without_them_the_plan_warns(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "a", {"model.norm": {"choices": ["pre_ln", "loud"], "recommended": False}})
    loud = planned(plan, "loud")
    assert settings(loud) == (1.0, 0.004)
    assert loud.recommended == []
    assert loud.left_out == [
        f"norm 'loud' recommends {SCALE} 5.657, but it is 1",
        "norm 'loud' recommends optimizer.lr times 0.5, but it is 0.004",
    ]
    assert [warning.text.partition(". ")[0] for warning in plan.warnings] == [f"loud: {text}" for text in loud.left_out]


def test_what_choices_set_themselves_is_kept(tmp_path: Path) -> None:
    several = {"loud": {"model.norm": "loud", SCALE: 7.0}, "plain": {"model.norm": "pre_ln"}}
    loud = planned(plan_of(tmp_path / "a", {"norm": {"choices": several}}, baseline={"norm": "plain"}), "loud")
    assert settings(loud) == (7.0, pytest.approx(0.002))
    whole = {"model.norm": ["pre_ln", "loud"], "model.architecture": [{"type": "decoder", "embed_scale": 9.0}]}
    loud = planned(plan_of(tmp_path / "b", whole), "loud")
    assert settings(loud) == (9.0, pytest.approx(0.002))
    axes = {"model.norm": ["loud", "pre_ln"], SCALE: [2.0, 4.0]}
    grid = plan_of(tmp_path / "c", axes, mode="grid")
    assert [settings(of)[0] for of in grid.variants] == [2.0, 4.0, 2.0, 4.0]


def test_a_component_of_the_base_keeps_the_settings_of_the_base(tmp_path: Path) -> None:
    model = {**BASE["model"], "norm": "loud", "architecture": {"type": "decoder", "embed_scale": 5.0}}
    plan = plan_of(tmp_path / "a", {"model.norm": ["loud", "pre_ln"]}, base={**BASE, "model": model})
    assert plan.baseline == plan.variants[0].name
    assert settings(plan.variants[0]) == (5.0, 0.004)
    assert planned(plan, "pre_ln").left_out == []
    assert plan.variants[0].left_out == [f"norm 'loud' recommends {SCALE} 5.657, but it is 5"]


def test_of_different_values_the_first_is_taken_and_the_other_left_out(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "a", {"model.ffn": ["mlp", "quiet"], "model.norm": ["pre_ln", "loud"]}, mode="grid")
    both = planned(plan, "quiet-loud")
    assert len(both.recommended) == 2
    assert any(f"{SCALE} " in missing for missing in both.left_out)
    assert "ffn 'quiet' recommends model.architecture.warmth 1, which this model cannot set" in both.left_out


def test_a_tuned_field_starts_at_the_recommended_value_and_is_not_left_out(tmp_path: Path) -> None:
    tune = {"field": SCALE, "factors": [0.5, 1.0, 2.0], "seeds": [1000]}
    plan = plan_of(tmp_path / "a", {"model.norm": ["pre_ln", "loud"]}, tune=tune)
    assert planned(plan, "loud").left_out == []
    tuning = planned(plan, "loud").tuning
    assert tuning is not None
    assert [grid.value for grid in tuning.grid] == pytest.approx([f * 32**0.5 for f in (0.5, 1.0, 2.0)])


def test_the_initial_standard_deviation_can_be_an_axis_and_tuned(tmp_path: Path) -> None:
    std = "model.architecture.init_std"
    plan = plan_of(tmp_path / "a", {std: [0.02, 0.1]}, tune={"field": SCALE, "factors": [1.0, 10.0], "seeds": [1000]})
    assert [of.spec.model.architecture.init_std for of in plan.variants] == [0.02, 0.1]
    plan = plan_of(tmp_path / "b", {SCALE: [1.0, 5.0]}, tune={"field": std, "factors": [1.0, 5.0], "seeds": [1000]})
    assert [g.value for of in plan.variants for g in of.tuning.grid] == pytest.approx([0.02, 0.1] * 2)  # type: ignore[union-attr]


# ---------------------------------------------------------------------- folders of older versions


def test_an_ablation_that_was_started_without_the_option_keeps_its_trials(tmp_path: Path) -> None:
    axes = {"model.norm": ["pre_ln", "loud"]}
    old = plan_of(tmp_path / "a", {"model.norm": {"choices": ["pre_ln", "loud"], "recommended": False}})
    write_plan(tmp_path / "a", old)
    file = tmp_path / "a" / "ablation.json"
    recorded = json.loads(file.read_text())
    assert recorded["axes"]["model.norm"].pop("recommended") is False
    file.write_text(json.dumps(recorded))
    for _ in range(2):  # the second time, the folder has the decision
        again = plan_of(tmp_path / "a", axes)
        assert [trial.name for trial in again.trials] == [trial.name for trial in old.trials]
        assert any("recommends" in warning.text for warning in again.warnings)
        write_plan(tmp_path / "a", again)
    explicit = plan_of(tmp_path / "a", {"model.norm": {"choices": ["pre_ln", "loud"], "recommended": True}})
    assert settings(planned(explicit, "loud")) == (pytest.approx(32**0.5), pytest.approx(0.002))
    new = plan_of(tmp_path / "b", axes)
    write_plan(tmp_path / "b", new)
    assert [trial.name for trial in plan_of(tmp_path / "b", axes).trials] == [trial.name for trial in new.trials]
    assert new.trials[1].name != old.trials[1].name


def test_variants_in_python_take_them_along_too() -> None:
    model = {**BASE["model"], "vocab_size": 13}
    pre_ln, loud = gptzoo.variants(model, {"norm": ["pre_ln", "loud"]})
    assert pre_ln.spec.architecture.embed_scale == 1.0
    assert loud.spec.architecture.embed_scale == pytest.approx(32**0.5)
    (without,) = gptzoo.variants(model, {"norm": {"choices": ["loud"], "recommended": False}})
    assert without.spec.architecture.embed_scale == 1.0


# ---------------------------------------------------------------------- one spec


def test_the_recommendations_of_a_spec_say_whether_they_are_met() -> None:
    run = {**BASE, "model": {**BASE["model"], "norm": "loud", "ffn": ["quiet", "mlp"]}}
    found = {(r.type, r.setting.field): (r.current, r.is_met) for r in recommendations_in(gptzoo.load_run_spec(run))}
    assert found == {
        ("loud", SCALE): (1.0, False),
        ("loud", "optimizer.lr"): (0.004, None),
        ("quiet", SCALE): (1.0, False),
        ("quiet", "model.architecture.warmth"): (None, False),
    }
    run["model"]["architecture"] = {"type": "decoder", "embed_scale": 3.0}
    met = {r.type: r.is_met for r in recommendations_in(gptzoo.load_run_spec(run)) if r.setting.field == SCALE}
    assert met == {"loud": False, "quiet": True}
    model = gptzoo.load_model_spec(run["model"])
    assert {(r.type, r.setting.field): r.is_met for r in recommendations_in(model)} == {
        ("loud", SCALE): False,
        ("loud", "optimizer.lr"): None,
        ("quiet", SCALE): True,
        ("quiet", "model.architecture.warmth"): False,
    }


def test_build_shows_them(tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    file.write_text(json.dumps({**BASE["model"], "vocab_size": 13, "norm": "loud"}))
    shown = CliRunner().invoke(main, ["build", str(file)]).output
    assert f"recommended      {SCALE} 5.657 · not set, but it is 1" in shown
    assert f"recommended      optimizer.lr times 0.5 · norm loud · {PAPER}" in shown
    shown = CliRunner().invoke(main, ["build", str(file), "--json"]).output
    first, second = json.loads(shown)["recommended"]
    assert (first["field"], first["value"], first["current"], first["is_met"]) == (SCALE, 32**0.5, 1.0, False)
    assert (second["field"], second["factor"], second["is_met"], second["source"]) == ("optimizer.lr", 0.5, None, PAPER)


# ---------------------------------------------------------------------- beside the verdict


def test_a_verdict_says_what_is_left_out() -> None:
    missing = f"norm 'loud' recommends {SCALE} 5.657, but it is 1"
    losses = {"pre_ln": {1: 2.0, 2: 2.1, 3: 2.05}, "loud": {1: 3.0, 2: 3.2, 3: 3.1}, "peri": {1: 2.5, 2: 2.6, 3: 2.4}}
    variants = [variant(n, {"model.norm": n}, left_out=[missing] if n == "loud" else []) for n in losses]
    result = outcome(losses, variants=variants)
    sentences = {comparison.variant: comparison.sentence for comparison in analyse(result).comparisons}
    assert sentences["loud"].startswith("loud is worse than pre_ln by")
    assert sentences["loud"].endswith(f". Note on loud: {missing}.")
    assert "Note on" not in sentences["peri"]
    verdicts = outcome_as_dict(result)["verdicts"]
    assert (verdicts["loud"]["left_out"], verdicts["peri"]["left_out"]) == ([missing], [])
    baseline_left_out = replace(result, baseline="loud")
    assert all(f"Note on loud: {missing}." in c.sentence for c in analyse(baseline_left_out).comparisons)


def test_an_outcome_of_an_older_version_has_none() -> None:
    assert outcome_as_dict(outcome({"a": {1: 2.0}, "b": {1: 2.1}}))["verdicts"]["b"]["left_out"] == []
