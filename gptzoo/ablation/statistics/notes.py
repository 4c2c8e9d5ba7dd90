"""Notes of a report: missing data, and assumptions of the statistics that do not hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from gptzoo.ablation.records.analysis import Cost, Matched
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.selection import Selection
from gptzoo.ablation.statistics.contrast import Endpoints, can_pair
from gptzoo.ablation.statistics.effects import FactorialContrast
from gptzoo.ablation.wording import format_count, listed, unit_of

_OUTLIER_THRESHOLD = 8.0  # robust standard deviations; normal noise exceeds it once in many thousand values
_MIN_VALUES_FOR_OUTLIERS = 8  # values in all variants; a robust standard deviation of fewer is too uncertain
_MAD_TO_SD = 1.4826  # standard deviations per median absolute deviation, for normal noise


def report_notes(
    outcome: Outcome,
    endpoints: Mapping[str, Endpoints],
    contrasts: Sequence[FactorialContrast],
    matched: Mapping[Cost, Matched],
) -> Iterator[str]:
    """Yield the notes of a report, the most important first."""
    n_open = sum(trial.state in ("waiting", "running") for trial in outcome.all_trials)
    if n_open:
        yield f"{n_open} of {format_count(len(outcome.all_trials), 'trial')} not done yet: these results may change."
    if n_unverified := sum(not trial.verified for trial in outcome.all_trials):
        yield (
            f"{n_unverified} of {format_count(len(outcome.all_trials), 'trial')} have no checksum, as an older version "
            "wrote them: only the form of their records was checked."
        )
    if outcome.selection is not None:
        yield from _selection_notes(outcome, outcome.selection)
    yield from _pairing_notes(outcome, endpoints)
    yield from _outlier_notes(endpoints, outcome.metric)
    yield from _effect_notes(contrasts, max(map(len, endpoints.values())))
    yield from _equal_cost_notes(outcome, matched)
    yield from _training_text_notes(outcome)
    yield from _exclusion_notes(outcome)


def _training_text_notes(outcome: Outcome) -> Iterator[str]:
    """Yield a note if the training losses of variants are of different texts or tokens."""
    data = {
        variant.name: json.dumps([variant.spec.get("corpus"), variant.spec.get("tokenizer")], sort_keys=True)
        for variant in outcome.variants
    }
    if any(own != data.get(outcome.reference_of(name)) for name, own in data.items()):
        yield (
            "train/loss is per token of each variant's own training text, and the variants have different corpora or "
            "tokenizers: its curves show progress, but do not compare variants."
        )


def _exclusion_notes(outcome: Outcome) -> Iterator[str]:
    """Yield a note for each reason to exclude combinations of choices, with the combinations."""
    by_reason: dict[str, list[str]] = {}
    for exclusion in outcome.exclusions:
        choices = " with ".join(f"{axis} {label}" for axis, label in exclusion.choices.items())
        by_reason.setdefault(exclusion.reason, []).append(choices)
    for reason, combinations in by_reason.items():
        yield f"Not compared: {listed(combinations)}. Reason: {reason}"


def _selection_notes(outcome: Outcome, selection: Selection) -> Iterator[str]:
    seeds = ", ".join(map(str, selection.seeds))
    if selection.finalists is None:
        yield f"The selection by seed {seeds} is in rung {len(selection.rungs)} of {selection.n_rungs}."
    elif n_stopped := sum(selection.status_of(name) == "stopped" for name in selection.ranking):
        yield (
            f"{format_count(n_stopped, 'variant')} of {len(outcome.variants)} were stopped early, by seed {seeds}, "
            "which no comparison uses. Variants that learn slowly at first but end well may be among them."
        )


def _pairing_notes(outcome: Outcome, endpoints: Mapping[str, Endpoints]) -> Iterator[str]:
    if not outcome.paired:
        return
    for variant in outcome.variants:
        baseline = outcome.reference_of(variant.name)
        baseline_seeds, seeds = set(endpoints[baseline]), set(endpoints[variant.name])
        if not baseline_seeds or not seeds or variant.name == baseline or seeds == baseline_seeds:
            continue
        if not can_pair(seeds, baseline_seeds):
            yield f"{variant.name} and {baseline} share too few seeds to pair: compared as independent runs."
        else:
            unpaired = ", ".join(map(str, sorted(seeds ^ baseline_seeds)))
            yield f"{variant.name} against {baseline}: without a partner, so not compared: seed {unpaired}."


def _outlier_notes(endpoints: Mapping[str, Endpoints], metric: str) -> Iterator[str]:
    """Yield a note for each seed too far from the others of its variant for the noise to be normal.

    The scale is the median absolute deviation over all variants, or that of the seed's own variant if it is larger.
    Variants may differ in noise.
    """
    deviations = {
        name: {seed: abs(value - median(values.values())) for seed, value in values.items()}
        for name, values in endpoints.items()
        if len(values) > 2
    }
    all_deviations = [deviation for by_seed in deviations.values() for deviation in by_seed.values()]
    if len(all_deviations) < _MIN_VALUES_FOR_OUTLIERS:
        return
    for name, by_seed in sorted(deviations.items()):
        scale = _MAD_TO_SD * max(median(all_deviations), median(by_seed.values()))
        for seed, deviation in sorted(by_seed.items()):
            if deviation > _OUTLIER_THRESHOLD * scale > 0:
                value = f"{endpoints[name][seed]:.4g} {unit_of(metric)}".rstrip()
                yield (
                    f"{name}: seed {seed} ended at a {metric} of {value}, far from its other seeds. Intervals and p "
                    "values assume normal noise, and one such seed widens them. Check this run."
                )


def _effect_notes(contrasts: Sequence[FactorialContrast], n_seeds: int) -> Iterator[str]:
    for factorial in contrasts:
        effect = " with ".join(factorial.choices.values())
        if factorial.contrast is None:
            yield f"The effect of {effect} cannot be estimated: every combination of the other choices lacks runs."
            continue
        if factorial.contrast.n < n_seeds:
            yield (
                f"The effect of {effect} uses {factorial.contrast.n} of {format_count(n_seeds, 'seed')}: "
                "runs of the others are missing."
            )
        if factorial.n_averaged < factorial.n_combinations:
            yield (
                f"The effect of {effect} is an average over {factorial.n_averaged} of "
                f"{format_count(factorial.n_combinations, 'combination')} of the other choices: "
                "runs of the others are missing."
            )


def _equal_cost_notes(outcome: Outcome, matched: Mapping[Cost, Matched]) -> Iterator[str]:
    values, advantage = "Losses", "a lower loss"
    if outcome.higher_is_better:
        values, advantage = outcome.metric, "a better result"
    for cost, at_cost in matched.items():
        if cut_short := [variant for variant in at_cost.cut_short if variant not in at_cost.untold]:
            yield (
                f"{values} at equal {cost}: {listed(cut_short)} trained beyond this point, where the learning rate had "
                f"not decayed fully. A run planned to end there would have had {advantage}."
            )
        if at_cost.untold:
            yield (
                f"{values} at equal {cost} of {listed(at_cost.untold)} are not shown: the evaluations are too far "
                "apart to interpolate. Set a smaller eval.every."
            )
