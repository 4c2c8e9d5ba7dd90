"""Comparison of the scores on tasks of the harness, by the same statistics as the metric."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gptzoo.ablation.records.analysis import Estimate, TaskScore, Verdict
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.statistics.contrast import Contrast, Endpoints, estimate_contrast, mean_estimate
from gptzoo.ablation.statistics.multiple_comparisons import apply_holm_correction

_LOWER_IS_BETTER = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "ter", "brier_score")


def compare_scores(outcome: Outcome) -> list[TaskScore]:
    """Return the mean score of each variant in each metric of a task, with its difference from the baseline.

    All differences are one family for Holm's correction. There is no margin: scores are the same only if they are equal
    bit for bit.
    """
    entries: list[TaskScore] = []
    contrasts: dict[int, Contrast | None] = {}
    for task, metric in _metrics(outcome):
        higher = _is_higher_better(outcome, task, metric)
        sign = -1.0 if higher else 1.0  # verdicts take lower values for better
        for name in (*outcome.baselines, *outcome.compared):
            values = _endpoints(outcome, name, task, metric)
            mean = mean_estimate(list(values.values()), outcome.level) if values else None
            if name in outcome.compared:
                cells = [(sign, values), (-sign, _endpoints(outcome, outcome.reference_of(name), task, metric))]
                contrasts[len(entries)] = estimate_contrast(cells, paired=outcome.paired)
            verdict: Verdict | None = "no data" if name in outcome.compared else None
            entries.append(TaskScore(task, metric, higher, name, values, mean, None, None, None, verdict))
    family = apply_holm_correction(list(contrasts.values()), alpha=outcome.level, margin=0.0)
    for index, corrected in zip(contrasts, family, strict=True):
        if corrected is not None:
            entry = entries[index]
            entries[index] = replace(
                entry,
                difference=_negated(corrected.estimate) if entry.higher_is_better else corrected.estimate,
                p=corrected.contrast.p,
                p_adjusted=corrected.p_adjusted,
                verdict=corrected.verdict,
                paired=corrected.contrast.paired,
            )
    return entries


def score_notes(outcome: Outcome) -> Iterator[str]:
    """Yield a note for each trial that could not be scored, and one if trials are not scored yet."""
    if not outcome.spec.get("harness"):
        return
    done = [trial for trial in outcome.trials if trial.state == "done"]
    for trial in done:
        if trial.unscored:
            yield f"{trial.variant} seed {trial.seed} has no scores on some tasks: {trial.unscored}"
    n_open = sum(not trial.scores and not trial.unscored for trial in done)
    if n_open:
        yield f"{n_open} of {len(done)} trained trials have no scores on the tasks yet."


def _metrics(outcome: Outcome) -> list[tuple[str, str]]:
    """Return the pairs of task and metric, in the order of the records."""
    pairs = ((task, metric) for trial in outcome.trials for task, metrics in trial.scores.items() for metric in metrics)
    return list(dict.fromkeys(pairs))


def _endpoints(outcome: Outcome, variant: str, task: str, metric: str) -> Endpoints:
    scores = {trial.seed: trial.scores.get(task, {}).get(metric) for trial in outcome.trials_of(variant)}
    return {seed: score.value for seed, score in scores.items() if score is not None}


def _is_higher_better(outcome: Outcome, task: str, metric: str) -> bool:
    """Return the direction that the task gives, else that of the metric's name."""
    given = (trial.scores[task][metric] for trial in outcome.trials if metric in trial.scores.get(task, {}))
    direction = next((score.higher_is_better for score in given if score.higher_is_better is not None), None)
    return metric.partition(" ")[0] not in _LOWER_IS_BETTER if direction is None else direction


def _negated(estimate: Estimate) -> Estimate:
    # 0.0 - 0.0 is 0.0, but -0.0 would be printed with its sign.
    low, high = (None if end is None else 0.0 - end for end in (estimate.high, estimate.low))
    return replace(estimate, value=0.0 - estimate.value, low=low, high=high)
