"""Verdicts name the size and the compute that differ: "better" alone would hide them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from outcomes import factorial, outcome, variant

from gptzoo.ablation.records.analysis import Comparison
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.report.summary import headline
from gptzoo.ablation.statistics.analyse import analyse

LOSSES = {"base": {1: 3.0, 2: 3.01, 3: 3.02, 4: 3.0}, "other": {1: 2.0, 2: 2.011, 3: 2.019, 4: 2.0}}


def with_costs(**costs: Any) -> Outcome:
    """Return two variants of which the second is better, and costs as `costs` says."""
    made = outcome(LOSSES)
    base, other = made.variants
    common = {"n_parameters": 1000, "flops_per_token": 6000.0, "tokens": 500}
    return replace(made, variants=[replace(base, **common), replace(other, **{**common, **costs})])


def comparison_of(made: Outcome) -> Comparison:
    (comparison,) = analyse(made).comparisons
    return comparison


@pytest.mark.parametrize(
    ("costs", "sentence"),
    [
        ({"n_parameters": 1052}, "it has 5.2% more parameters."),
        (
            {"n_parameters": 700, "flops_per_token": 4500.0},
            "it has 30.0% fewer parameters and 25.0% fewer training FLOPs.",
        ),
        ({"tokens": 1250}, "it has 2.5 times the training FLOPs."),
        ({"tokens": None, "flops_per_token": 6600.0}, "it has 10.0% more training FLOPs per token."),
    ],
)
def test_a_verdict_names_the_parameters_and_flops_that_differ(costs: dict[str, Any], sentence: str) -> None:
    comparison = comparison_of(with_costs(**costs))
    assert comparison.verdict == "better"
    assert comparison.sentence.endswith(f" At unequal cost: {sentence}")


def test_the_headline_names_them_for_the_best_variant() -> None:
    made = with_costs(n_parameters=1052)
    assert headline(made, analyse(made)).endswith("; it is better than the baseline, with 5.2% more parameters.")


@pytest.mark.parametrize("costs", [{}, {"n_parameters": 1009}, {"n_parameters": 1000, "flops_per_token": None}])
def test_costs_that_are_equal_or_unknown_are_not_named(costs: dict[str, Any]) -> None:
    assert "unequal" not in comparison_of(with_costs(**costs)).sentence


def test_without_a_finding_nothing_is_qualified() -> None:
    made = with_costs(n_parameters=2000)
    noisy = outcome({"base": {1: 3.0, 2: 2.0}, "other": {1: 2.2, 2: 3.1}}, variants=made.variants)
    assert comparison_of(noisy).verdict == "cannot tell"
    assert "unequal" not in comparison_of(noisy).sentence


def test_a_main_effect_names_the_costs_of_its_choice_over_all_combinations() -> None:
    """The parameters are 1000, plus 100 for wide, plus 300 for late: (1100 + 1400) / (1000 + 1300) - 1 = 8.7%."""
    axes = {"model.ffn": ["slim", "wide"], "model.norm": ["early", "late"]}
    losses = {
        f"{ffn}-{norm}": {seed: 3 - 0.5 * (ffn == "wide") + 0.2 * (norm == "late") + 1e-3 * seed for seed in range(4)}
        for ffn in axes["model.ffn"]
        for norm in axes["model.norm"]
    }
    made = factorial(axes, losses)
    sizes = {"slim": 0, "wide": 100, "early": 0, "late": 300}
    variants = [
        variant(v.name, v.choices, n_parameters=1000 + sum(sizes[choice] for choice in v.choices.values()))
        for v in made.variants
    ]
    effects = analyse(replace(made, variants=variants)).effects
    (wide,) = [effect for effect in effects if list(effect.choices.values()) == ["wide"]]
    assert wide.sentence.endswith("At unequal cost: it has 8.7% more parameters.")
    (both,) = [effect for effect in effects if len(effect.choices) == 2]
    assert "unequal" not in both.sentence
