"""Warnings about unequal numbers of parameters, FLOPs and tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from outcomes import outcome, variant

from gptzoo.ablation.records.outcome import Variant
from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.ablation.warnings.costs import unequal_flops, unequal_parameters, unequal_tokens
from gptzoo.spec.ablation_fairness import BudgetSpec


def sized(name: str, parameters: int, flops_per_token: float | None = 6000.0, tokens: int | None = 100_000) -> Variant:
    costs = {"n_parameters": parameters, "flops_per_token": flops_per_token}
    return variant(name, {}, **costs, tokens=tokens, steps=tokens and tokens // 100)


def one(warnings: Iterator[ComparisonWarning]) -> ComparisonWarning:
    (warning,) = warnings
    return warning


def test_different_numbers_of_parameters_are_a_warning_with_the_shares() -> None:
    variants = [sized("base", 100_000), sized("wide", 150_000), sized("slim", 95_500), sized("equal", 100_900)]
    warning = one(unequal_parameters(variants, "base"))
    assert (warning.kind, warning.variants) == ("parameters", ["wide", "slim"])
    assert "wide has 150,000 parameters (+50%), slim has 95,500 parameters (−4.5%), against 100,000" in warning.text


def test_a_difference_that_size_matching_leaves_is_no_warning() -> None:
    assert list(unequal_parameters([sized("base", 100_000), sized("matched", 100_900)], "base")) == []


def test_different_training_flops_are_a_warning_unless_a_budget_makes_other_costs_equal() -> None:
    variants = [sized("base", 1), sized("costly", 1, 7500.0)]
    warning = one(unequal_flops(variants, "base", None))
    assert "costly has 750 MFLOPs (+25%), against 600 MFLOPs of base" in warning.text
    assert one(unequal_flops(variants, "base", BudgetSpec(tokens=100_000))) == warning
    assert list(unequal_flops(variants, "base", BudgetSpec(seconds=10.0))) == []
    assert list(unequal_flops(variants, "base", BudgetSpec(flops=1e9))) == []


def test_fewer_tokens_of_a_costly_variant_are_equal_flops() -> None:
    variants = [sized("base", 1), sized("costly", 1, 7500.0, tokens=80_000)]
    assert list(unequal_flops(variants, "base", None)) == []
    warning = one(unequal_tokens(variants, "base", None))
    assert "costly has 80,000 tokens (−20%), against 100,000 tokens of base" in warning.text
    assert list(unequal_tokens(variants, "base", BudgetSpec(flops=6e8))) == []


def test_flops_per_token_are_compared_if_an_older_version_did_not_record_the_length() -> None:
    variants = [sized("base", 1, tokens=None), sized("costly", 1, 7500.0, tokens=None)]
    assert "7.5 kFLOPs per token (+25%)" in one(unequal_flops(variants, "base", None)).text
    assert list(unequal_tokens(variants, "base", None)) == []


def test_unknown_costs_are_no_warning() -> None:
    variants = [sized("base", 1, None), sized("costly", 1, 7500.0)]
    assert list(unequal_flops(variants, "base", None)) == []


@pytest.mark.parametrize(("parameters", "kinds"), [(100_000, []), (130_000, ["flops", "parameters"])])
def test_the_analysis_has_them_and_names_what_was_trained(parameters: int, kinds: list[str]) -> None:
    variants = [sized("base", 100_000), sized("other", parameters, 6000.0 * parameters / 100_000)]
    made = outcome({"base": {1: 2.0, 2: 2.1}, "other": {1: 1.9, 2: 2.0}}, variants=variants)
    analysis = analyse(made)
    assert [warning.kind for warning in analysis.warnings] == kinds
    size = "100,000" if parameters == 100_000 else "100,000 to 130,000"
    start = f"Trained: 2 variants with {size} parameters, 2 seeds each; 1,000 steps, 100,000 tokens in each run"
    assert analysis.trained.startswith(start)
