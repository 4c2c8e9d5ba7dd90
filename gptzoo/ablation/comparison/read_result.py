"""The result of a comparison, computed from the outcome of its ablation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

from gptzoo.ablation.comparison.result import (
    ComparisonResult,
    CostToReachResult,
    FailedSeed,
    IntervalResult,
    LookResult,
    SideResult,
    WarningResult,
)
from gptzoo.ablation.records.analysis import Analysis, Estimate
from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.statistics.analyse import analyse_reproducibly, compare_with_baseline
from gptzoo.spec.ablation_fairness import level_of_look


def result_of(outcome: Outcome) -> ComparisonResult:
    """Return the result of a comparison whose ablation has this outcome."""
    analysis = analyse_reproducibly(outcome)
    (comparison,) = analysis.comparisons
    variants = {variant.name: variant for variant in outcome.variants}
    a, b = variants[outcome.baseline], variants[comparison.variant]
    difference = comparison.difference
    return ComparisonResult(
        verdict=comparison.verdict,
        trained=analysis.trained,
        sentence=comparison.sentence,
        warnings=tuple(map(WarningResult.of, analysis.warnings)),
        metric=outcome.metric,
        higher_is_better=outcome.higher_is_better,
        unit=analysis.unit,
        a=_side(outcome, analysis, a),
        b=_side(outcome, analysis, b),
        changes=tuple(b.differences),
        difference=_interval(difference),
        cost_to_reach=_cost(analysis),
        paired=comparison.paired,
        n=0 if difference is None else difference.n,
        p=comparison.p,
        effect_size=comparison.effect_size,
        detectable=comparison.detectable,
        more_seeds=comparison.more_seeds,
        margin=outcome.margin,
        alpha=outcome.spec["alpha"],
        looks=tuple(_looks(outcome)),
        notes=tuple(analysis.notes),
        folder=str(outcome.folder),
        environment=dict(outcome.environment),
    )


def _cost(analysis: Analysis) -> CostToReachResult | None:
    for cost in analysis.costs:
        fields = asdict(cost)
        del fields["variant"]
        return CostToReachResult.model_validate(fields)
    return None


def _side(outcome: Outcome, analysis: Analysis, variant: Variant) -> SideResult:
    return SideResult(
        name=variant.name,
        parameters=variant.n_parameters,
        steps=variant.steps,
        tokens=variant.tokens,
        flops=variant.flops,
        mean=_interval(analysis.ranking.get(variant.name)),
        values={str(seed): value for seed, value in outcome.endpoints(variant.name).items()},
        failed=tuple(FailedSeed(seed=trial.seed, reason=trial.reason) for trial in outcome.failures(variant.name)),
        spec=dict(variant.spec),
    )


def _looks(outcome: Outcome) -> Iterator[LookResult]:
    seeds = sorted({trial.seed for trial in outcome.trials})
    for number, n in enumerate(outcome.looks, 1):
        level = level_of_look(outcome.spec["alpha"], number)
        seen = [trial for trial in outcome.trials if trial.seed in seeds[:n]]
        (comparison,) = compare_with_baseline(replace(outcome, trials=seen, level=level))
        yield LookResult(seeds=n, level=level, verdict=comparison.verdict)


def _interval(estimate: Estimate | None) -> IntervalResult | None:
    return None if estimate is None else IntervalResult(value=estimate.value, low=estimate.low, high=estimate.high)
