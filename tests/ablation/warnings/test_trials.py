"""Warnings about seeds without a result, single runs, and grids of a tuned field."""

from __future__ import annotations

from dataclasses import replace

from outcomes import outcome, variant

from gptzoo.ablation.records.tuning import GridValue, Tuning
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.ablation.warnings.results import result_warnings

LOSSES = {"a": {1: 2.0, 2: 2.1, 3: 2.2}, "b": {1: 2.5, 2: 2.4, 3: 2.6}}


def test_failed_seeds_are_the_first_warning_and_name_seed_and_reason() -> None:
    (warning,) = result_warnings(outcome({**LOSSES, "b": {1: 2.5, 2: None, 3: 2.6}}))
    assert (warning.kind, warning.variants) == ("failed seeds", ["b"])
    assert warning.text.startswith("b: 1 of 3 trials failed (seed 2): diverged: the loss is nan.")
    assert "makes a variant that often fails look better" in warning.text


def test_trials_that_are_done_give_no_warning() -> None:
    assert list(result_warnings(outcome(LOSSES))) == []


def test_a_warning_of_runs_names_the_variant_and_its_seeds() -> None:
    made = outcome(LOSSES)
    trials = [replace(t, warnings=["nothing is trained"]) if t.variant == "b" else t for t in made.trials]
    (warning,) = result_warnings(replace(made, trials=trials))
    assert (warning.kind, warning.text) == ("run", "b, seeds 1, 2, 3: nothing is trained.")


def test_a_learning_rate_at_the_edge_of_its_grid_is_a_warning_and_one_inside_is_none() -> None:
    grid = [GridValue(0.001, 2.0), GridValue(0.01, 1.5), GridValue(0.1, 1.4)]
    at_edge = Tuning("optimizer.lr", [50], grid, best=0.1, edge="highest")
    inside = replace(at_edge, grid=[*grid, GridValue(1.0, 1.9)], edge=None)
    made = outcome(LOSSES, variants=[variant("a", {}, tuning=inside), variant("b", {}, tuning=at_edge)])
    (warning,) = analyse(made).warnings
    assert (warning.kind, warning.variants) == ("learning rate", ["b"])
    assert "at the edge of the grid of b (0.1, the highest of 3)" in warning.text


def test_a_tuned_field_without_effect_and_failed_values_are_warnings() -> None:
    flat = Tuning("optimizer.lr", [50], [GridValue(0.1, 2.0), GridValue(1.0, 2.0)], best=0.1, has_effect=False)
    failed = Tuning("optimizer.lr", [50], [GridValue(0.1, 2.0), GridValue(1.0, None)], best=0.1)
    made = outcome(LOSSES, variants=[variant("a", {}, tuning=flat), variant("b", {}, tuning=failed)])
    texts = [(warning.kind, warning.text) for warning in analyse(made).warnings]
    assert [kind for kind, _ in texts] == ["learning rate", "learning rate"]
    assert "optimizer.lr has no effect on a" in texts[0][1]
    assert "Some values of optimizer.lr failed in the tuning of b (1 of 2)" in texts[1][1]
