"""The analysis of an ablation: from endpoints to verdicts. `docs/statistics.md` gives the formulas and the reasons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import mean

from gptzoo.ablation.machine_metrics import without_machine_metrics
from gptzoo.ablation.records.analysis import Analysis, Comparison, Effect, Verdict
from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.records.selection import Selection
from gptzoo.ablation.statistics.contrast import (
    Contrast,
    Endpoints,
    estimate_contrast,
    estimate_noise,
    mean_estimate,
    pooled_sd,
)
from gptzoo.ablation.statistics.cost_to_reach import cost_notes, costs_to_reach
from gptzoo.ablation.statistics.curves import curve_bands, losses_at_equal_cost
from gptzoo.ablation.statistics.effects import FactorialContrast, factorial_contrasts, pairs_of_choice
from gptzoo.ablation.statistics.multiple_comparisons import CorrectedContrast, apply_holm_correction
from gptzoo.ablation.statistics.notes import report_notes
from gptzoo.ablation.statistics.pareto import pareto_fronts
from gptzoo.ablation.statistics.power import detectable_difference, seeds_for_equivalence, seeds_needed
from gptzoo.ablation.statistics.sentences import MoreSeeds, no_data_sentence, verdict_sentence
from gptzoo.ablation.statistics.task_scores import compare_scores, score_notes
from gptzoo.ablation.statistics.tasks import mean_of_shares, task_results
from gptzoo.ablation.statistics.training import describe_training
from gptzoo.ablation.warnings.results import result_warnings
from gptzoo.ablation.warnings.unequal_costs import VariantPair, describe_unequal_costs
from gptzoo.ablation.wording import describe_failures, unit_of


def analyse(outcome: Outcome) -> Analysis:
    """Analyse an ablation, running or done.

    Comparisons with the baseline are one family for Holm's correction, and the effects of a factorial design another.
    In each family, `outcome.level` bounds the probability of calling anything different if nothing is. The analysis is
    deterministic and does not depend on the order of variants and trials.
    """
    endpoints = {variant.name: outcome.endpoints(variant.name) for variant in outcome.variants}
    losses = {name: mean(values.values()) for name, values in endpoints.items() if values}
    average = mean_of_shares if outcome.compares_shares else mean_estimate
    ranking = {name: average(list(endpoints[name].values()), outcome.level) for name in _ranked(outcome, endpoints)}
    contrasts = factorial_contrasts(outcome, endpoints)
    matched = losses_at_equal_cost(outcome)
    comparisons = compare_with_baseline(outcome)
    return Analysis(
        baseline=outcome.baseline,
        metric=outcome.metric,
        ranking=ranking,
        comparisons=comparisons,
        noise=estimate_noise(list(endpoints.values()), outcome.level),
        effects=_estimate_effects(outcome, contrasts),
        bands=curve_bands(outcome),
        matched=matched,
        fronts=pareto_fronts(outcome, losses),
        notes=[*report_notes(outcome, endpoints, contrasts, matched), *score_notes(outcome), *cost_notes(outcome)],
        scores=compare_scores(outcome),
        tasks=task_results(outcome),
        warnings=list(result_warnings(outcome)),
        trained=describe_training(outcome),
        costs=costs_to_reach(outcome, comparisons),
        unit=unit_of(outcome.metric),
        higher_is_better=outcome.higher_is_better,
    )


def analyse_reproducibly(outcome: Outcome) -> Analysis:
    """Analyse an ablation so that equal trials give equal results on every machine, except for seconds in costs."""
    analysis = analyse(without_machine_metrics(outcome))
    return replace(analysis, costs=costs_to_reach(outcome, analysis.comparisons))


def _ranked(outcome: Outcome, endpoints: Mapping[str, Endpoints]) -> list[str]:
    """Return the variants with endpoints, task by task, the best mean first."""
    sign = -1 if outcome.higher_is_better else 1
    order = {variant.name: index for index, variant in enumerate(outcome.variants)}
    tasks = {name: order[outcome.reference_of(name)] for name in order}
    losses = {name: mean(values.values()) for name, values in endpoints.items() if values}
    return sorted(losses, key=lambda name: (tasks[name], sign * losses[name], name))


def compare_with_baseline(outcome: Outcome) -> list[Comparison]:
    """Compare each variant with the baseline, in the order of their means."""
    endpoints = {variant.name: outcome.endpoints(variant.name) for variant in outcome.variants}
    ranked = _ranked(outcome, endpoints)
    without_data = [variant.name for variant in outcome.variants if variant.name not in ranked]
    in_family = set(outcome.compared)
    names = [name for name in [*ranked, *without_data] if name in in_family]
    cells = [[(1, endpoints[name]), (-1, endpoints[outcome.reference_of(name)])] for name in names]
    contrasts = [estimate_contrast(cell, paired=outcome.paired) for cell in cells]
    family = _corrected(outcome, contrasts, [1] * len(contrasts))
    comparisons = [
        _without_data(outcome, endpoints, name)
        if corrected is None
        else _comparison(outcome, endpoints, name, corrected)
        for name, corrected in zip(names, family, strict=True)
    ]
    return comparisons if outcome.selection is None else [*comparisons, *_not_selected(outcome, outcome.selection)]


def _corrected(
    outcome: Outcome, contrasts: Sequence[Contrast | None], n_differences: Sequence[int]
) -> list[CorrectedContrast | None]:
    """Return the verdicts on a family of contrasts.

    n_differences: number of differences that each contrast adds up. A difference of shares has a size of at most 1.
    """
    family = apply_holm_correction(
        contrasts, alpha=outcome.level, margin=outcome.margin, higher_is_better=outcome.higher_is_better
    )
    if not outcome.compares_shares:
        return family
    return [of and replace(of, limit=float(n)) for of, n in zip(family, n_differences, strict=True)]


def _not_selected(outcome: Outcome, selection: Selection) -> Iterator[Comparison]:
    """Yield an entry for each variant that the selection stopped or has not decided on yet.

    They are not members of the family: the seeds of the comparisons had no influence on which variants are finalists.
    """
    for name in selection.ranking:
        if name == outcome.baseline or name in (selection.finalists or ()):
            continue
        description, status = selection.describe(name, outcome.metric), selection.status_of(name)
        sentence = {
            "stopped": f"{name} was {description}. Its final {outcome.metric} is unknown.",
            "failed": f"{name} {description}: {selection.failure_reason(name)}.",
        }.get(status, f"{name} is {description}.")
        verdict: Verdict = "stopped" if status == "stopped" else "no data"
        yield _comparison_without_estimate(name, verdict, int(status == "failed"), sentence)


def _without_data(outcome: Outcome, endpoints: Mapping[str, Endpoints], name: str) -> Comparison:
    missing = name if not endpoints[name] else outcome.reference_of(name)
    sentence = no_data_sentence(missing, outcome.trials_of(missing), outcome.failures(missing))
    return _comparison_without_estimate(name, "no data", len(outcome.failures(name)), sentence)


def _comparison_without_estimate(name: str, verdict: Verdict, n_failed: int, sentence: str) -> Comparison:
    return Comparison(
        variant=name,
        verdict=verdict,
        difference=None,
        paired=False,
        p=None,
        p_adjusted=None,
        effect_size=None,
        detectable=None,
        more_seeds=None,
        n_failed=n_failed,
        sentence=sentence,
    )


def _comparison(
    outcome: Outcome, endpoints: Mapping[str, Endpoints], name: str, corrected: CorrectedContrast
) -> Comparison:
    contrast = corrected.contrast
    reference = outcome.reference_of(name)
    sides = [endpoints[name], endpoints[reference]]
    more_seeds = _more_seeds(outcome, corrected, contrast.sd, paired=contrast.paired)
    sentence = verdict_sentence(
        name, reference, corrected, metric=outcome.metric, margin=outcome.margin, more_seeds=more_seeds
    )
    failed = outcome.failures(name)
    if failed:
        sentence += f" {describe_failures(failed, len(outcome.trials_of(name)))}."
    sentence += _unequal_costs(corrected.verdict, [(_variant(outcome, name), _variant(outcome, reference))])
    sentence += _left_out(outcome, name)
    return Comparison(
        variant=name,
        verdict=corrected.verdict,
        difference=corrected.estimate,
        paired=contrast.paired,
        p=contrast.p,
        p_adjusted=corrected.p_adjusted,
        effect_size=_effect_size(contrast, pooled_sd(sides)),
        detectable=_detectable_difference(outcome, contrast, (len(sides[0]), len(sides[1]))),
        more_seeds=None if more_seeds is None else more_seeds.n,
        n_failed=len(failed),
        sentence=sentence,
        level=corrected.level,
    )


def _variant(outcome: Outcome, name: str) -> Variant:
    return next(variant for variant in outcome.variants if variant.name == name)


def _unequal_costs(verdict: Verdict, pairs: Sequence[VariantPair]) -> str:
    """Return a sentence on the size and compute that differ behind a verdict, or ""."""
    described = describe_unequal_costs(pairs) if verdict in ("better", "worse", "same") else ""
    return f" At unequal cost: it has {described}." if described else ""


def _left_out(outcome: Outcome, name: str) -> str:
    """Return a sentence for each recommended setting that a variant or the baseline leaves out, or ""."""
    return "".join(
        f" Note on {variant.name}: {setting}."
        for variant in outcome.variants
        if variant.name in (name, outcome.reference_of(name))
        for setting in variant.left_out
    )


def _estimate_effects(outcome: Outcome, contrasts: Sequence[FactorialContrast]) -> list[Effect]:
    n_differences = [2 ** (len(factorial.choices) - 1) for factorial in contrasts]
    family = _corrected(outcome, [factorial.contrast for factorial in contrasts], n_differences)
    return [
        _effect(outcome, factorial, corrected)
        for factorial, corrected in zip(contrasts, family, strict=True)
        if corrected is not None
    ]


def _effect(outcome: Outcome, factorial: FactorialContrast, corrected: CorrectedContrast) -> Effect:
    contrast, labels = corrected.contrast, factorial.choices.values()
    reference = "the sum of both" if len(labels) > 1 else next(iter(factorial.reference.values()))
    # A contrast of more than two cells has more than n - 1 degrees of freedom if it is not paired. Student's t within a
    # seed is the conservative choice.
    sd = None if contrast.error is None else contrast.error * math.sqrt(contrast.n)
    more_seeds = _more_seeds(outcome, corrected, sd, paired=True)
    return Effect(
        choices=factorial.choices,
        reference=factorial.reference,
        estimate=corrected.estimate,
        p_adjusted=corrected.p_adjusted,
        verdict=corrected.verdict,
        effect_size=_effect_size(contrast, factorial.sd),
        sentence=verdict_sentence(
            " with ".join(labels),
            reference,
            corrected,
            metric=outcome.metric,
            margin=outcome.margin,
            more_seeds=more_seeds,
        )
        + _unequal_costs(corrected.verdict, pairs_of_choice(outcome, factorial)),
    )


def _detectable_difference(outcome: Outcome, contrast: Contrast, n: tuple[int, int]) -> float | None:
    if contrast.sd is None:
        return None
    return detectable_difference(
        contrast.sd,
        contrast.n if contrast.paired else n,
        n_comparisons=max(1, len(outcome.compared)),
        alpha=outcome.level,
        power=outcome.power,
        paired=contrast.paired,
    )


def _more_seeds(outcome: Outcome, corrected: CorrectedContrast, sd: float | None, *, paired: bool) -> MoreSeeds | None:
    """Return how many more seeds per side would decide a "cannot tell", if the true difference is the estimated one.

    The decision is "better", "worse" or "same", whichever needs fewer seeds. Return None for other verdicts, and if no
    number of seeds would decide.
    """
    if corrected.verdict != "cannot tell" or sd is None:
        return None
    value, alpha, power = corrected.contrast.value, corrected.level, outcome.power
    of_difference: Verdict = "better" if (value > 0) == outcome.higher_is_better else "worse"
    needed: dict[Verdict, int | None] = {
        of_difference: seeds_needed(value, sd, alpha=alpha, power=power, paired=paired),
        "same": seeds_for_equivalence(outcome.margin, sd, difference=value, alpha=alpha, power=power, paired=paired),
    }
    decisions = [MoreSeeds(max(1, n - corrected.contrast.n), verdict) for verdict, n in needed.items() if n is not None]
    return min(decisions, default=None)


def _effect_size(contrast: Contrast, sd: float | None) -> float | None:
    return contrast.value / sd if sd else None
