"""The headline of a report (the findings) and its methods paragraph (how they were obtained)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set

from gptzoo.ablation.records.analysis import Analysis, Verdict
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.report.formatting import format_estimate
from gptzoo.ablation.warnings.tuning import tuned_variants
from gptzoo.ablation.warnings.unequal_costs import describe_unequal_costs
from gptzoo.ablation.wording import better_direction, format_count, unit_of


def headline(outcome: Outcome, analysis: Analysis) -> str:
    """Return the number of variants with each verdict, and the variant with the best mean."""
    return " ".join(_headline_sentences(outcome, analysis))


def _headline_sentences(outcome: Outcome, analysis: Analysis) -> Iterator[str]:
    states = Counter(trial.state for trial in outcome.all_trials)
    n_open = states["waiting"] + states["running"]
    if n_open:
        yield f"Preliminary: {n_open} of {format_count(len(outcome.all_trials), 'trial')} not done yet."
    if outcome.selection is not None and outcome.selection.finalists is None:
        rung, n_rungs = len(outcome.selection.rungs), outcome.selection.n_rungs
        yield f"The selection is in rung {rung} of {n_rungs}: no variants are compared yet."
        return
    compared = [comparison for comparison in analysis.comparisons if comparison.variant in outcome.compared]
    if len(compared) < len(analysis.comparisons):
        yield (
            f"Successive halving kept {len(compared)} of {format_count(len(outcome.variants), 'variant')}, "
            "besides the baseline."
        )
    if not compared:
        yield f"{analysis.baseline} is the only variant: there is nothing to compare it with."
        return
    verdicts = Counter(comparison.verdict for comparison in compared)
    margin = f"{outcome.margin:g} {analysis.unit}".rstrip()
    descriptions: dict[Verdict, str] = {
        "better": "{} better",
        "worse": "{} worse",
        "same": f"{{}} the same to within {margin}",
        "cannot tell": "{} cannot be told apart from it",
        "no data": "{} without data",
    }
    parts = [text.format(verdicts[verdict]) for verdict, text in descriptions.items() if verdicts[verdict]]
    baseline = "the baseline of the same task" if outcome.task_axes else analysis.baseline
    yield f"Of {format_count(len(compared), 'variant')} compared with {baseline}: {_enumeration(parts)}."
    if analysis.ranking and not outcome.task_axes:
        yield _best_mean(outcome, analysis)


def _best_mean(outcome: Outcome, analysis: Analysis) -> str:
    best, estimate = next(iter(analysis.ranking.items()))
    mean = f"{format_estimate(estimate)} {analysis.unit}".rstrip()
    end = "highest" if analysis.higher_is_better else "lowest"
    if best == analysis.baseline:
        return f"The baseline, {best}, has the {end} {analysis.metric}: {mean}."
    verdict = next((c.verdict for c in analysis.comparisons if c.variant == best), None)
    remark = {
        "better": "; it is better than the baseline",
        "same": "; it is the same as the baseline",
        "cannot tell": "; it cannot be told apart from the baseline",
    }.get(verdict or "", "")
    variants = {variant.name: variant for variant in outcome.variants}
    unequal = describe_unequal_costs([(variants[best], variants[analysis.baseline])])
    unequal = f", with {unequal}" if unequal and verdict in ("better", "same") else ""
    return f"{best} has the {end} {analysis.metric}: {mean}{remark}{unequal}."


def methods(outcome: Outcome, analysis: Analysis) -> str:
    """Return how the numbers were obtained, as the caption of a table in a paper."""
    return " ".join(_methods_sentences(outcome, analysis))


def score_methods(outcome: Outcome, analysis: Analysis) -> str:
    """Return how the scores on tasks were obtained, as the caption of a table in a paper."""
    return " ".join(_score_sentences(outcome, analysis))


def _score_sentences(outcome: Outcome, analysis: Analysis) -> Iterator[str]:
    harness = outcome.spec.get("harness") or {}
    few, limit = harness.get("num_fewshot"), harness.get("limit")
    shots = "" if few is None else f", with {format_count(few, 'example')} before each question"
    documents = "" if limit is None else f", on the first {format_count(limit, 'document')} of each task"
    names = [*outcome.baselines, *outcome.compared]
    yield (
        f"{outcome.name}: scores of {format_count(len(names), 'variant')} with {_n_seeds(outcome, names)} each on "
        f"tasks of lm-evaluation-harness at the end of training{shots}{documents}; ↑: higher is better, ↓: lower is "
        f"better; {_means(outcome)}."
    )
    paired = {score.paired for score in analysis.scores if score.paired is not None}
    if paired:
        n_differences = sum(score.variant in outcome.compared for score in analysis.scores)
        yield _differences(outcome, paired, n_differences)
        yield 'Verdict "same": all scores are equal. Verdict "cannot tell": the interval contains 0.'


def _methods_sentences(outcome: Outcome, analysis: Analysis) -> Iterator[str]:
    names = [*outcome.baselines, *outcome.compared]
    unit = f" in {unit_of(outcome.metric)}" if unit_of(outcome.metric) else ""
    yield (
        f"{outcome.name}: {format_count(len(names), 'variant')} with {_n_seeds(outcome, names)} each; "
        f"{outcome.metric}{unit} at the end of training, {better_direction(outcome.higher_is_better)}; "
        f"{_means(outcome)}."
    )
    paired = {comparison.paired for comparison in analysis.comparisons if comparison.difference is not None}
    if paired:
        yield _differences(outcome, paired, len(outcome.compared))
        if outcome.looks:
            *earlier, last = outcome.looks
            counts = ", ".join([*map(str, earlier), format_count(last, "seed")])
            yield (
                f"This is look {len(outcome.looks)} at the results, after {counts}. It spends "
                f"{outcome.level:.2g} of α = {outcome.spec['alpha']:g}, which bounds the errors of all looks together."
            )
        margin = f"±{outcome.margin:g} {analysis.unit}".rstrip()
        yield (
            f'Verdict "same": the whole interval lies within {margin}. Verdict "cannot tell": it does '
            "not, and contains 0."
        )
    if analysis.costs:
        *shorter, longest = sorted({1.0, *(length.multiple for length in outcome.baseline_lengths)})
        multiples = f"{', '.join(f'{multiple:g}' for multiple in shorter)} and {longest:g}"
        yield (
            f"Cost to reach: the number of steps that {outcome.baseline} needs to reach a mean, as a multiple of its "
            f"own. It is interpolated over the logarithm of the length, between complete runs of {multiples} times its "
            "length. Its interval has the lengths at which the test of the verdict finds no difference."
        )
    if outcome.selection is not None:
        selection_seeds = ", ".join(map(str, outcome.selection.seeds))
        n_variants = format_count(len(outcome.variants), "variant")
        yield (
            f"The variants are the finalists of successive halving from {n_variants} by the mean "
            f"{outcome.metric} of seed {selection_seeds}, which no comparison uses."
        )
    if tuned := tuned_variants(outcome):
        tuning = tuned[0][1]
        sizes = sorted({len(tuning.grid) for _, tuning in tuned})
        n_values = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        yield (
            f"{tuning.field} of each variant was tuned on {n_values} values, by the mean {outcome.metric} of seed "
            f"{', '.join(map(str, tuning.seeds))}, which no comparison uses."
        )
    if analysis.noise is not None:
        noise = f"{format_estimate(analysis.noise)} {analysis.unit}".rstrip()
        yield f"The standard deviation over seeds is {noise}, pooled over variants."


def _n_seeds(outcome: Outcome, variants: Sequence[str]) -> str:
    numbers = sorted({len(outcome.trials_of(name)) for name in variants})
    most = format_count(numbers[-1], "seed")
    return most if len(numbers) == 1 else f"{numbers[0]} to {most}"


def _means(outcome: Outcome) -> str:
    return f"means with {100 * (1 - outcome.level):.4g}% confidence intervals"


def _differences(outcome: Outcome, paired: Set[bool], n_comparisons: int) -> str:
    """Return a sentence on the test behind the differences, of which some or all may be paired."""
    test = {
        frozenset({True}): "paired by seed, which sets data order and initial values (Student's t)",
        frozenset({False}): "between independent runs (Welch's t)",
    }.get(
        frozenset(paired),
        "paired by seed (Student's t), or between independent runs (Welch's t) if fewer than two seeds pair",
    )
    baseline = "the baseline of the same task" if outcome.task_axes else outcome.baseline
    return (
        f"Differences are variant minus {baseline}, {test}, with intervals and p values corrected for "
        f"{format_count(n_comparisons, 'comparison')} (Holm, α = {outcome.level:.3g})."
    )


def _enumeration(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
