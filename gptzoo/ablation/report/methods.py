"""What was found and how it was found, in whole sentences: the headline of a report, and the caption of its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gptzoo.ablation.records.analysis import Analysis
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.report.shown import interval, unit
from gptzoo.ablation.statistics.sentences import count


def headline(outcome: Outcome, analysis: Analysis) -> str:
    """How many variants are better, worse, the same, or none of that for sure; and which has the lowest mean."""
    return " ".join(_headline(outcome, analysis))


def _headline(outcome: Outcome, analysis: Analysis) -> Iterator[str]:
    states = Counter(trial.state for trial in outcome.trials)
    still = states["waiting"] + states["running"]
    if still:
        yield f"Preliminary: {still} of {count(len(outcome.trials), 'trial')} not done yet."
    if outcome.selection is not None and outcome.selection.finalists is None:
        rung, n_rungs = len(outcome.selection.rungs), outcome.selection.n_rungs
        yield f"Variants are being selected, rung {rung} of {n_rungs}: nothing is compared yet."
        return
    compared = [one for one in analysis.comparisons if one.variant in outcome.compared]
    verdicts = Counter(one.verdict for one in compared)
    told = {
        "better": "{} better",
        "worse": "{} worse",
        "same": f"{{}} the same to within {outcome.margin:g}",
        "cannot tell": "{} cannot be told apart from it",
        "no data": "{} without data",
    }
    parts = [text.format(verdicts[verdict]) for verdict, text in told.items() if verdicts[verdict]]  # type: ignore[index]
    n = len(compared)
    if n < len(analysis.comparisons):
        yield f"Of {count(len(outcome.variants), 'variant')}, halving has left {n} and the baseline."
    if n:
        yield f"Of {count(n, 'variant')} compared with {analysis.baseline}: {_listed(parts)}."
    else:
        yield f"{analysis.baseline} is the only variant: there is nothing to compare it with."
    if n and analysis.ranking:
        best, estimate = next(iter(analysis.ranking.items()))
        verdict = next((one.verdict for one in analysis.comparisons if one.variant == best), None)
        caution = {
            "better": ": its seeds can tell it from the baseline",
            "same": ", the same as the baseline",
            "cannot tell": ": its seeds cannot tell it from the baseline",
        }.get(verdict or "", "")
        whose = f"the baseline, {best}," if best == analysis.baseline else best
        yield f"The lowest mean is that of {whose} {interval(estimate)}{caution}."


def methods(outcome: Outcome, analysis: Analysis) -> str:
    """How the numbers came about, as a paper would say it."""
    return " ".join(_methods(outcome, analysis))


def _methods(outcome: Outcome, analysis: Analysis) -> Iterator[str]:
    compared = [outcome.baseline, *outcome.compared]
    seeds = sorted({len(outcome.trials_of(name)) for name in compared})
    each = count(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {count(seeds[-1], 'seed')}"
    measured = f" in {unit(outcome.metric)}" if unit(outcome.metric) else ""
    yield (
        f"{outcome.name}: {count(len(compared), 'variant')} with {each} each; {outcome.metric}{measured} at "
        f"the end of training, lower is better; means with {100 * (1 - outcome.alpha):.4g}% confidence intervals."
    )
    paired = {one.paired for one in analysis.comparisons if one.difference is not None}
    if paired:
        how = {
            frozenset({True}): "paired by seed, with which data order and initial values go (Student's t)",
            frozenset({False}): "between independent runs (Welch's t)",
        }.get(
            frozenset(paired),
            "paired by seed (Student's t), or between independent runs (Welch's t) where too few pair",
        )
        yield (
            f"Differences are variant minus {analysis.baseline}, {how}, with intervals and p values corrected for "
            f"{count(len(compared) - 1, 'comparison')} (Holm, α = {outcome.alpha:g})."
        )
        yield f"The same: the whole interval lies within ±{outcome.margin:g}. Cannot tell: it does not, and holds 0."
    if outcome.selection is not None:
        chosen_by = ", ".join(map(str, outcome.selection.seeds))
        yield (
            f"They are what successive halving left of {count(len(outcome.variants), 'variant')} by the mean "
            f"{outcome.metric} of seed {chosen_by}, which no comparison uses."
        )
    if analysis.noise is not None:
        yield f"The standard deviation over seeds is {interval(analysis.noise)}, pooled over variants."


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
