"""Losses along training: confidence bands over seeds, and the losses of all variants at equal cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from scipy import stats

from gptzoo.ablation.records.analysis import Band, Cost, Matched
from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.statistics.contrast import mean_estimate

MAX_BAND_POINTS = 200  # more cannot be distinguished in a figure
_EQUAL_COST_RATIO = 1.01  # costs within this ratio count as equal
_MAX_INTERPOLATION_GAP = 0.25  # of the cost; the loss is not close to linear between evaluations further apart


@dataclass(frozen=True)
class Curve:
    """A metric of one variant at the steps at which all its seeds have a value."""

    costs: Mapping[Cost, np.ndarray]  # (steps,), mean over seeds, for each known cost
    values: np.ndarray  # (seeds, steps)


def curve(outcome: Outcome, variant: Variant, metric: str) -> Curve | None:
    """Return the curve over the trials that are done, or over all started trials if none is done.

    Return None if there is no step at which all these trials have a value.
    """
    started = [trial for trial in outcome.trials_of(variant.name) if trial.rows]
    trials = [trial for trial in started if trial.state == "done"] or started
    values = [{row["step"]: row[metric] for row in trial.rows if row.get(metric) is not None} for trial in trials]
    steps = sorted(set.intersection(*map(set, values))) if values else []
    if not steps:
        return None
    costs_of_trials = [_cumulative_costs(trial, variant, steps) for trial in trials]
    known = [cost for cost in get_args(Cost) if all(cost in costs for costs in costs_of_trials)]
    costs = {cost: np.mean([costs[cost] for costs in costs_of_trials], axis=0) for cost in known}
    return Curve(costs, np.array([[by_step[step] for step in steps] for by_step in values]))


def curve_bands(outcome: Outcome) -> list[Band]:
    """Return bands of the compared metric and of the training loss, by variant and by each known cost."""
    bands = []
    for metric in dict.fromkeys((outcome.metric, "train/loss")):
        for variant in outcome.variants:
            variant_curve = curve(outcome, variant, metric)
            if variant_curve is not None:
                bands += _bands(variant.name, metric, variant_curve, outcome.level)
    return bands


def losses_at_equal_cost(outcome: Outcome) -> dict[Cost, Matched]:
    """Return the losses at equal FLOPs and at equal seconds, if those are known for every variant that is done.

    The cost is the total cost of the cheapest variant. Losses are interpolated linearly between evaluations. Losses on
    different tasks do not compare, so there are none.
    """
    if outcome.task_axes:
        return {}
    curves = {variant.name: curve(outcome, variant, outcome.metric) for variant in outcome.variants}
    done = {name: c for name, c in curves.items() if c is not None and outcome.endpoints(name)}
    matched: dict[Cost, Matched] = {}
    compared_costs: tuple[Cost, ...] = ("flops", "seconds")
    for cost in compared_costs:
        if len(done) >= 2 and all(cost in c.costs for c in done.values()):
            matched[cost] = _match(done, cost, outcome.level)
    return matched


def _match(curves: Mapping[str, Curve], cost: Cost, alpha: float) -> Matched:
    totals = {name: float(c.costs[cost][-1]) for name, c in curves.items()}
    at = min(totals.values())
    cut_short = [name for name, total in totals.items() if total > at * _EQUAL_COST_RATIO]
    losses, untold = {}, []
    for name, c in curves.items():
        x = c.costs[cost]
        after = int(np.searchsorted(x, at))
        if name not in cut_short:
            losses[name] = mean_estimate(c.values[:, -1].tolist(), alpha)
        elif after and x[after] - x[after - 1] <= _MAX_INTERPOLATION_GAP * at:
            losses[name] = mean_estimate([float(np.interp(at, x, row)) for row in c.values], alpha)
        else:
            untold.append(name)
    return Matched(at, losses, cut_short, untold)


def _cumulative_costs(trial: TrialOutcome, variant: Variant, steps: Sequence[int]) -> dict[Cost, np.ndarray]:
    """Return the cumulative costs of a trial at the given steps, without unknown costs."""
    step_set, at_steps = set(steps), []
    tokens, seconds, timed = 0.0, 0.0, True
    for row in trial.rows:
        new_tokens = _number(row, "tokens", tokens) - tokens
        tokens_per_second = _number(row, "tokens_per_second", 0.0)
        tokens += new_tokens
        if tokens_per_second > 0:
            seconds += new_tokens / tokens_per_second
        elif new_tokens:
            timed = False
        if row["step"] in step_set:
            at_steps.append((row["step"], tokens, seconds))
    by_step, by_tokens, by_seconds = np.array(at_steps).T
    costs: dict[Cost, np.ndarray] = {"step": by_step}
    if tokens:
        costs["tokens"] = by_tokens
        if variant.flops_per_token:
            costs["flops"] = by_tokens * variant.flops_per_token
        if timed:
            costs["seconds"] = by_seconds
    return costs


def _number(row: Mapping[str, Any], name: str, default: float) -> float:
    value = row.get(name)
    return default if value is None else float(value)


def _bands(variant: str, metric: str, variant_curve: Curve, alpha: float) -> list[Band]:
    """Return one band per known cost: the mean over seeds with its pointwise Student's t interval."""
    n_seeds, n_steps = variant_curve.values.shape
    at = np.unique(np.linspace(0, n_steps - 1, min(n_steps, MAX_BAND_POINTS)).round().astype(int))
    values = variant_curve.values[:, at]
    mean = values.mean(axis=0)
    low: list[float | None] = [None] * len(at)
    high = list(low)
    if n_seeds > 1:
        half_width = stats.t.isf(alpha / 2, n_seeds - 1) * values.std(axis=0, ddof=1) / np.sqrt(n_seeds)
        low, high = (mean - half_width).tolist(), (mean + half_width).tolist()
    return [
        Band(variant, metric, cost, x[at].tolist(), mean.tolist(), low, high) for cost, x in variant_curve.costs.items()
    ]
