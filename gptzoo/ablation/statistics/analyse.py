"""From what an ablation has found to what may be said of it. `docs/statistics.md` has the formulas and the reasons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from statistics import mean

from gptzoo.ablation.records.analysis import Analysis, Comparison, Effect, Verdict
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.selection import Selection
from gptzoo.ablation.statistics.contrast import Contrast, Endpoints, contrast, mean_estimate, noise, pooled_sd
from gptzoo.ablation.statistics.curves import bands, matched
from gptzoo.ablation.statistics.effects import Question, questions
from gptzoo.ablation.statistics.multiple_comparisons import Judged, judge
from gptzoo.ablation.statistics.notes import notes
from gptzoo.ablation.statistics.pareto import fronts
from gptzoo.ablation.statistics.power import detectable_difference, seeds_for_same, seeds_needed
from gptzoo.ablation.statistics.sentences import no_data, sentence, why_failed


def analyse(outcome: Outcome) -> Analysis:
    """Judge an ablation, running or done.

    Comparisons with the baseline are one family, effects of a factorial design another; in each, alpha bounds how often
    anything is called different where nothing is. Nothing is drawn at random, and the order of variants and trials does
    not matter.
    """
    endpoints = {variant.name: outcome.endpoints(variant.name) for variant in outcome.variants}
    losses = {name: mean(values.values()) for name, values in endpoints.items() if values}
    ranked = sorted(losses, key=lambda name: (losses[name], name))
    ranking = {name: mean_estimate(list(endpoints[name].values()), outcome.alpha) for name in ranked}
    asked = questions(outcome, endpoints)
    comparisons = _comparisons(outcome, endpoints, ranked)
    return Analysis(
        baseline=outcome.baseline,
        metric=outcome.metric,
        ranking=ranking,
        comparisons=comparisons,
        noise=noise(list(endpoints.values()), outcome.alpha),
        effects=_effects(outcome, asked),
        bands=bands(outcome),
        matched=(equal := matched(outcome)),
        fronts=fronts(outcome, losses),
        notes=list(notes(outcome, endpoints, asked, equal)),
    )


def _comparisons(outcome: Outcome, endpoints: Mapping[str, Endpoints], ranked: list[str]) -> list[Comparison]:
    without = [variant.name for variant in outcome.variants if variant.name not in ranked]
    compared = set(outcome.compared)
    others = [name for name in [*ranked, *without] if name in compared]
    contrasts = [
        contrast([(1, endpoints[name]), (-1, endpoints[outcome.baseline])], paired=outcome.paired) for name in others
    ]
    judged = judge(contrasts, alpha=outcome.alpha, margin=outcome.margin)
    found = [_comparison(outcome, endpoints, name, one) for name, one in zip(others, judged, strict=True)]
    return found if outcome.selection is None else [*found, *_not_compared(outcome, outcome.selection)]


def _not_compared(outcome: Outcome, selection: Selection) -> Iterator[Comparison]:
    """What the selection has stopped, or has not decided on yet. They are no part of the family: the seeds that the
    others are compared by had no say in which those are."""
    for name in selection.ranking:
        if name == outcome.baseline or name in (selection.finalists or ()):
            continue
        told, fate = selection.describe(name, outcome.metric), selection.status_of(name)
        said = {
            "stopped": f"{name} was {told}. How it would have ended is not known.",
            "failed": f"{name} {told}: {selection.failure_reason(name)}.",
        }.get(fate, f"{name} is {told}.")
        verdict: Verdict = "stopped" if fate == "stopped" else "no data"
        yield Comparison(name, verdict, None, False, None, None, None, None, None, int(fate == "failed"), said)


def _comparison(outcome: Outcome, endpoints: Mapping[str, Endpoints], name: str, judged: Judged | None) -> Comparison:
    trials, failed = outcome.trials_of(name), outcome.failures(name)
    if judged is None:
        lacking = name if not endpoints[name] else outcome.baseline
        said = no_data(lacking, outcome.trials_of(lacking), outcome.failures(lacking))
        return Comparison(name, "no data", None, False, None, None, None, None, None, len(failed), said)
    one = judged.contrast
    sides = [endpoints[name], endpoints[outcome.baseline]]
    more = _more_seeds(outcome, judged, one.sd, paired=one.paired)
    said = sentence(name, outcome.baseline, judged, margin=outcome.margin, more_seeds=more)
    if failed:
        said += f" {why_failed(failed, len(trials))}."
    return Comparison(
        variant=name,
        verdict=judged.verdict,
        difference=judged.estimate,
        paired=one.paired,
        p=one.p,
        p_adjusted=judged.p_adjusted,
        effect_size=_in_deviations(one, pooled_sd(sides)),
        detectable=_detectable(outcome, one, (len(sides[0]), len(sides[1]))),
        more_seeds=more,
        n_failed=len(failed),
        sentence=said,
    )


def _effects(outcome: Outcome, asked: list[Question]) -> list[Effect]:
    judged = judge([one.contrast for one in asked], alpha=outcome.alpha, margin=outcome.margin)
    return [_effect(outcome, question, one) for question, one in zip(asked, judged, strict=True) if one is not None]


def _detectable(outcome: Outcome, one: Contrast, n: tuple[int, int]) -> float | None:
    if one.sd is None:
        return None
    return detectable_difference(
        one.sd,
        one.n if one.paired else n,
        n_comparisons=max(1, len(outcome.compared)),
        alpha=outcome.alpha,
        power=outcome.power,
        paired=one.paired,
    )


def _effect(outcome: Outcome, question: Question, judged: Judged) -> Effect:
    one, labels = judged.contrast, question.choices.values()
    reference = "the sum of both" if len(labels) > 1 else next(iter(question.reference.values()))
    # The cells are more than two: Student's t within a seed, at n - 1 degrees of freedom, is on the safe side.
    spread = None if one.error is None else one.error * math.sqrt(one.n)
    more = _more_seeds(outcome, judged, spread, paired=True)
    return Effect(
        choices=question.choices,
        reference=question.reference,
        estimate=judged.estimate,
        p_adjusted=judged.p_adjusted,
        verdict=judged.verdict,
        effect_size=_in_deviations(one, question.sd),
        sentence=sentence(" with ".join(labels), reference, judged, margin=outcome.margin, more_seeds=more),
    )


def _more_seeds(outcome: Outcome, judged: Judged, sd: float | None, *, paired: bool) -> int | None:
    """Seeds a side beyond those there are with which a difference such as this is told: apart, or the same."""
    if judged.verdict != "cannot tell" or sd is None:
        return None
    value, alpha, power = judged.contrast.value, judged.level, outcome.power
    apart = seeds_needed(value, sd, alpha=alpha, power=power, paired=paired)
    same = seeds_for_same(outcome.margin, sd, difference=value, alpha=alpha, power=power, paired=paired)
    found = [n for n in (apart, same) if n is not None]
    return max(1, min(found) - judged.contrast.n) if found else None


def _in_deviations(one: Contrast, sd: float | None) -> float | None:
    return one.value / sd if sd else None
