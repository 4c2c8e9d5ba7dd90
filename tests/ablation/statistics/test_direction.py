"""Metrics that are higher for better models: everything is the mirror image of the same values as losses."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from outcomes import BITS, outcome, recorded

import gptzoo
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.selection import RungTrial
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.report.figures.figure import build_figures
from gptzoo.ablation.report.summary import headline, methods
from gptzoo.ablation.selection.halving import select
from gptzoo.ablation.selection.learning_rate_grid import GridTrial, choose_value
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.ablation.statistics.multiple_comparisons import verdict_from_interval
from gptzoo.ablation.statistics.pareto import pareto_front
from gptzoo.ablation.terminal.print_outcome import outcome_as_dict
from gptzoo.spec.ablation_fairness import TuneSpec

LOSSES = {name: dict(enumerate(values)) for name, values in BITS.items()}


def mirrored(losses: dict[str, dict[int, float]]) -> Outcome:
    """Return an outcome whose metric is higher for better models: 10 minus the loss."""
    made = outcome({name: {seed: 10 - value for seed, value in of.items()} for name, of in losses.items()})
    return replace(made, higher_is_better=True)


@pytest.mark.parametrize("losses", [LOSSES, recorded()], ids=["made up", "recorded"])
def test_verdicts_and_the_ranking_are_those_of_the_mirrored_losses(losses: dict[str, dict[int, float]]) -> None:
    as_loss, as_gain = analyse(outcome(losses)), analyse(mirrored(losses))
    assert list(as_gain.ranking) == list(as_loss.ranking)
    assert {c.verdict for c in as_loss.comparisons} & {"better", "worse"}
    for gain, loss in zip(as_gain.comparisons, as_loss.comparisons, strict=True):
        assert (gain.variant, gain.verdict, gain.more_seeds) == (loss.variant, loss.verdict, loss.more_seeds)
        assert gain.p_adjusted == pytest.approx(loss.p_adjusted, rel=1e-6)
        assert gain.difference is not None
        assert loss.difference is not None
        assert gain.difference.value == pytest.approx(-loss.difference.value)
        assert gain.difference.low == pytest.approx(-(loss.difference.high or 0))
    for cost, points in as_loss.fronts.items():
        assert [p.on_front for p in as_gain.fronts[cost]] == [p.on_front for p in points]


def test_sentences_say_how_much_better_a_variant_is_and_which_direction_is_better() -> None:
    made = mirrored(LOSSES)
    analysis = analyse(made)
    sentences = {comparison.variant: comparison.sentence for comparison in analysis.comparisons}
    assert sentences["good"].startswith("good is better than base by 0.09")
    assert sentences["bad"].startswith("bad is worse than base by 0.3")
    assert "good has the highest val/loss" in headline(made, analysis)
    assert "higher is better" in methods(made, analysis)
    assert (
        "Positive differences are better"
        in next(f for f in build_figures(made, analysis) if f.name == "differences").caption
    )


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((0.1, 0.3), "better"), ((-0.3, -0.1), "worse"), ((-0.1, 0.3), "cannot tell"), ((-0.01, 0.01), "same")],
)
def test_a_positive_interval_is_better_for_a_metric_that_is_higher(interval: tuple[float, float], verdict: str) -> None:
    assert verdict_from_interval(*interval, margin=0.02, higher_is_better=True) == verdict
    low, high = interval
    assert verdict_from_interval(-high, -low, margin=0.02) == verdict


def test_the_front_of_accuracies_is_that_of_errors() -> None:
    rng = random.Random(3)
    for _ in range(100):
        errors = {str(i): rng.choice((0.1, 0.2, rng.random())) for i in range(6)}
        costs = {name: float(rng.randint(1, 4)) for name in errors}
        accuracies = {name: 1 - error for name, error in errors.items()}
        front = pareto_front(accuracies, costs, margin=0.05, higher_is_better=True)
        of_errors = pareto_front(errors, costs, margin=0.05)
        assert {p.variant for p in front if p.on_front} == {p.variant for p in of_errors if p.on_front}


def test_a_rung_promotes_the_highest_accuracies() -> None:
    accuracies = {"v0": 0.5, "v1": 0.2, "v2": 0.9, "v3": 0.7, "v4": 0.1}

    def read_trial(variant: str, seed: int, step: int) -> RungTrial:
        return RungTrial("done", accuracies[variant])

    steps = {name: [1] for name in accuracies}
    chosen = select(steps, "v0", eta=2, seeds=[0], read_trial=read_trial, higher_is_better=True)
    assert chosen.finalists == ["v2", "v3"]
    lowest = select(steps, "v0", eta=2, seeds=[0], read_trial=read_trial)
    assert lowest.finalists == ["v4", "v1"]


def test_tuning_chooses_the_highest_accuracy_and_extends_the_grid_towards_it() -> None:
    model = {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}
    run = {
        "model": model,
        "corpus": "stories",
        "optimizer": {"type": "adamw", "lr": 0.001},
        "steps": 4,
        "batch_size": 4,
    }
    spec = gptzoo.load_run_spec(run)

    def accuracy_of(of: Callable[[float], float]) -> Callable[[GridTrial], TrialOutcome]:
        def ended(trial: GridTrial) -> TrialOutcome:
            return TrialOutcome("any", trial.seed, "done", rows=[{"step": 1, "val/accuracy": of(trial.value)}])

        return ended

    tune = TuneSpec(factors=(0.5, 1.0, 2.0), seeds=(8,), extend=True)
    inside = accuracy_of(lambda lr: 1 - abs(lr - 0.001))
    chosen = choose_value(spec, tune, "val/accuracy", inside, higher_is_better=True)
    assert chosen.tuning is not None
    assert (chosen.tuning.best, chosen.tuning.n_added) == (0.001, 0)
    beyond = choose_value(
        spec, tune, "val/accuracy", accuracy_of(lambda lr: 1 - abs(lr - 0.004)), higher_is_better=True
    )
    assert beyond.tuning is not None
    assert beyond.tuning.best == 0.004


def test_a_metric_of_the_machine_is_compared_in_all_results_if_it_is_the_one_to_compare() -> None:
    speeds = {name: {seed: 1000 / value for seed, value in of.items()} for name, of in LOSSES.items()}
    trials = [
        TrialOutcome(name, seed, "done", rows=[{"step": 10, "tokens_per_second": speed, "val/loss": 2.0}])
        for name, of in speeds.items()
        for seed, speed in of.items()
    ]
    made = replace(outcome(LOSSES), metric="tokens_per_second", trials=trials, higher_is_better=True)
    shown = {name: entry["verdict"] for name, entry in outcome_as_dict(made)["verdicts"].items()}
    assert shown == {"good": "better", "bad": "worse"}
    assert shown == {comparison.variant: comparison.verdict for comparison in analyse(made).comparisons}
