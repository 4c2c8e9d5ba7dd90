"""Notes of a report: missing data, and assumptions of the statistics that do not hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from gptzoo.ablation.records.analysis import Cost, Matched
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.same_text import is_validation_metric
from gptzoo.ablation.records.selection import Selection
from gptzoo.ablation.statistics.contrast import Endpoints
from gptzoo.ablation.statistics.effects import FactorialContrast
from gptzoo.ablation.statistics.sentences import describe_failures, format_count
from gptzoo.ablation.statistics.warnings import report_warnings
from gptzoo.data.held_out import Overlap

_OUTLIER_THRESHOLD = 8.0  # robust standard deviations; normal noise exceeds it once in many thousand values
_MIN_VALUES_FOR_OUTLIERS = 8  # values in all variants; a robust standard deviation of fewer is too uncertain
_MAX_LISTED_VARIANTS = 6
_MAD_TO_SD = 1.4826  # standard deviations per median absolute deviation, for normal noise


def report_notes(
    outcome: Outcome,
    endpoints: Mapping[str, Endpoints],
    contrasts: Sequence[FactorialContrast],
    matched: Mapping[Cost, Matched],
) -> Iterator[str]:
    """Yield the notes of a report, the most important first."""
    n_open = sum(trial.state in ("waiting", "running") for trial in outcome.trials)
    if n_open:
        yield f"{n_open} of {format_count(len(outcome.trials), 'trial')} not done yet: these results may change."
    yield from report_warnings(outcome)
    if n_unverified := sum(not trial.verified for trial in outcome.trials):
        yield (
            f"{n_unverified} of {format_count(len(outcome.trials), 'trial')} have no checksum, as an older version "
            "wrote them: only the form of their records was checked."
        )
    for variant in outcome.variants:
        if failed := outcome.failures(variant.name):
            rest = " Its results come from its other runs." if endpoints[variant.name] else ""
            yield f"{variant.name}: {describe_failures(failed, len(outcome.trials_of(variant.name)))}.{rest}"
    if outcome.selection is not None:
        yield from _selection_notes(outcome, outcome.selection)
    yield from _text_notes(outcome)
    yield from _pairing_notes(outcome, endpoints)
    yield from _outlier_notes(endpoints)
    yield from _effect_notes(contrasts, max(map(len, endpoints.values())))
    yield from _equal_cost_notes(matched)


def _selection_notes(outcome: Outcome, selection: Selection) -> Iterator[str]:
    seeds = ", ".join(map(str, selection.seeds))
    if selection.finalists is None:
        yield f"The selection by seed {seeds} is in rung {len(selection.rungs)} of {selection.n_rungs}."
    elif n_stopped := sum(selection.status_of(name) == "stopped" for name in selection.ranking):
        yield (
            f"{format_count(n_stopped, 'variant')} of {len(outcome.variants)} were stopped early, by seed {seeds}, "
            "which no comparison uses. Variants that learn slowly at first but end well may be among them."
        )


def _text_notes(outcome: Outcome) -> Iterator[str]:
    """Yield notes about held-out text that was trained on, that is unknown, or that changed between trials."""
    described = set()
    for variant in outcome.variants:
        trials = outcome.trials_of(variant.name)
        for trial in trials:
            overlap = Overlap.from_record(trial.data.get("overlap"))
            if overlap is not None and overlap.is_high:
                described.add((variant.name, overlap.describe()))
        if len({trial.data["data"] for trial in trials if "data" in trial.data}) > 1:
            yield f"{variant.name}: its trials were trained on different text, so their mean mixes data sets."
    by_text: dict[str, list[str]] = {}
    for name, text in sorted(described):
        by_text.setdefault(text, []).append(name)
    for text, names in by_text.items():
        yield f"{_listed(names)}: measured on text that is partly trained on: {text}."
    if len({json.dumps([v.spec.get("corpus"), v.spec.get("tokenizer")], sort_keys=True) for v in outcome.variants}) > 1:
        yield (
            "train/loss is per token of each variant's own training text, and the variants have different corpora or "
            "tokenizers: its curves show progress, but do not compare variants."
        )
    if len({variant.spec.get("model", {}).get("context_length") for variant in outcome.variants}) > 1:
        yield (
            "The variants have different context lengths, and each is evaluated in windows of its own length: longer "
            "windows give more context. `gptzoo eval --window` measures all in windows of one length."
        )
    yield from _unknown_text_notes(outcome)


def _unknown_text_notes(outcome: Outcome) -> Iterator[str]:
    """Yield a note if an older version trained variants with different corpora and did not record their texts."""
    if not is_validation_metric(outcome.metric):
        return
    ended = [trial for trial in outcome.trials if trial.state == "done" and trial.rows]
    if outcome.metric == "val/bits_per_byte" and len({bool(trial.data.get("held_out")) for trial in ended}) > 1:
        yield (
            "Some trials were trained by an older version of gptzoo, whose bits per byte also counted separators as "
            "text: do not compare them with the others. `gptzoo eval` gives the current figure of a trial."
        )
    corpora = {variant.name: variant.spec.get("corpus") for variant in outcome.variants}
    for name, corpus in corpora.items():
        is_unknown = any(trial.rows and not trial.data.get("held_out") for trial in outcome.trials_of(name))
        if is_unknown and corpus != corpora.get(outcome.baseline):
            yield (
                f"{name}: its corpus is not that of {outcome.baseline}, and an older version of gptzoo did not record "
                "the held-out texts. If they differ, their losses do not compare."
            )


def _pairing_notes(outcome: Outcome, endpoints: Mapping[str, Endpoints]) -> Iterator[str]:
    baseline_seeds = set(endpoints[outcome.baseline])
    if not outcome.paired or not baseline_seeds:
        return
    for variant in outcome.variants:
        seeds = set(endpoints[variant.name])
        if not seeds or variant.name == outcome.baseline or seeds == baseline_seeds:
            continue
        if len(seeds & baseline_seeds) < 2 <= min(len(seeds), len(baseline_seeds)):
            yield f"{variant.name} and {outcome.baseline} share too few seeds to pair: compared as independent runs."
        elif unpaired := sorted(seeds ^ baseline_seeds):
            listed = ", ".join(map(str, unpaired))
            yield f"{variant.name} against {outcome.baseline}: without a partner, so not compared: seed {listed}."


def _outlier_notes(endpoints: Mapping[str, Endpoints]) -> Iterator[str]:
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
                yield (
                    f"{name}: seed {seed} ended at {endpoints[name][seed]:.4g}, far from its other seeds. Intervals "
                    "and p values assume normal noise, and one such seed widens them. Check this run."
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


def _equal_cost_notes(matched: Mapping[Cost, Matched]) -> Iterator[str]:
    for cost, at_cost in matched.items():
        if cut_short := [variant for variant in at_cost.cut_short if variant not in at_cost.untold]:
            yield (
                f"Losses at equal {cost}: {_listed(cut_short)} trained beyond this point, where the learning rate had "
                "not decayed fully. A run planned to end there would have had a lower loss."
            )
        if at_cost.untold:
            yield (
                f"Losses at equal {cost} of {_listed(at_cost.untold)} are not shown: the evaluations are too far apart "
                "to interpolate. Set a smaller eval.every."
            )


def _listed(variants: Sequence[str]) -> str:
    """Return the names of the variants, or their number if there are many."""
    return ", ".join(variants) if len(variants) <= _MAX_LISTED_VARIANTS else format_count(len(variants), "variant")
