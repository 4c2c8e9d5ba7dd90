"""Losses along training: bands over seeds, and the losses of all variants where they have cost the same."""

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

MOST_POINTS = 200  # of a band: what a picture can show
_EQUAL = 1.01  # costs within this ratio are the same cost
_FAR = 0.25  # of the cost: between evaluations further apart a loss is no straight line


@dataclass(frozen=True)
class Curve:
    """A metric of all seeds of a variant at the steps that all of them have."""

    costs: Mapping[Cost, np.ndarray]  # (steps,), mean over seeds; those that are known
    values: np.ndarray  # (seeds, steps)


def curve(outcome: Outcome, variant: Variant, metric: str) -> Curve | None:
    """Of the trials that are done; while none is, of those that have begun. None without any value."""
    begun = [trial for trial in outcome.trials_of(variant.name) if trial.rows]
    trials = [trial for trial in begun if trial.state == "done"] or begun
    values = [{row["step"]: row[metric] for row in trial.rows if row.get(metric) is not None} for trial in trials]
    steps = sorted(set.intersection(*map(set, values))) if values else []
    if not steps:
        return None
    per_trial = [_costs(trial, variant, steps) for trial in trials]
    known = [cost for cost in get_args(Cost) if all(cost in costs for costs in per_trial)]
    costs = {cost: np.mean([costs[cost] for costs in per_trial], axis=0) for cost in known}
    return Curve(costs, np.array([[found[step] for step in steps] for found in values]))


def bands(outcome: Outcome) -> list[Band]:
    """The compared metric and the training loss of each variant against each cost that is known."""
    found = []
    for metric in dict.fromkeys((outcome.metric, "train/loss")):
        for variant in outcome.variants:
            one = curve(outcome, variant, metric)
            if one is not None:
                found += _bands(variant.name, metric, one, outcome.alpha)
    return found


def matched(outcome: Outcome) -> dict[Cost, Matched]:
    """By FLOPs and by seconds, losses at the cost of the cheapest variant, on straight lines between evaluations."""
    curves = {variant.name: curve(outcome, variant, outcome.metric) for variant in outcome.variants}
    done = {name: one for name, one in curves.items() if one is not None and outcome.endpoints(name)}
    found: dict[Cost, Matched] = {}
    compared: tuple[Cost, ...] = ("flops", "seconds")
    for cost in compared:
        if len(done) < 2 or any(cost not in one.costs for one in done.values()):
            continue
        found[cost] = _matched(done, cost, outcome.alpha)
    return found


def _matched(curves: Mapping[str, Curve], cost: Cost, alpha: float) -> Matched:
    ends = {name: float(one.costs[cost][-1]) for name, one in curves.items()}
    at = min(ends.values())
    cut_short = [name for name, end in ends.items() if end > at * _EQUAL]
    losses, untold = {}, []
    for name, one in curves.items():
        x = one.costs[cost]
        after = int(np.searchsorted(x, at))
        if name not in cut_short:
            losses[name] = mean_estimate(one.values[:, -1].tolist(), alpha)
        elif after and x[after] - x[after - 1] <= _FAR * at:
            losses[name] = mean_estimate([float(np.interp(at, x, row)) for row in one.values], alpha)
        else:
            untold.append(name)
    return Matched(at, losses, cut_short, untold)


def _costs(trial: TrialOutcome, variant: Variant, steps: Sequence[int]) -> dict[Cost, np.ndarray]:
    """What a trial has taken up to each of the steps; without what is not known."""
    wanted, taken = set(steps), []
    tokens, seconds, timed = 0.0, 0.0, True
    for row in trial.rows:
        new, rate = _number(row, "tokens", tokens) - tokens, _number(row, "tokens_per_second", 0.0)
        tokens += new
        if rate > 0:
            seconds += new / rate
        elif new:
            timed = False
        if row["step"] in wanted:
            taken.append((row["step"], tokens, seconds))
    by_step, by_tokens, by_seconds = np.array(taken).T
    known: dict[Cost, np.ndarray] = {"step": by_step}
    if tokens:
        known["tokens"] = by_tokens
        if variant.flops_per_token:
            known["flops"] = by_tokens * variant.flops_per_token
        if timed:
            known["seconds"] = by_seconds
    return known


def _number(row: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = row.get(name)
    return otherwise if value is None else float(value)


def _bands(variant: str, metric: str, one: Curve, alpha: float) -> list[Band]:
    n_seeds, n_steps = one.values.shape
    at = np.unique(np.linspace(0, n_steps - 1, min(n_steps, MOST_POINTS)).round().astype(int))
    values = one.values[:, at]
    mean = values.mean(axis=0)
    low: list[float | None] = [None] * len(at)
    high = list(low)
    if n_seeds > 1:
        half = stats.t.isf(alpha / 2, n_seeds - 1) * values.std(axis=0, ddof=1) / np.sqrt(n_seeds)
        low, high = (mean - half).tolist(), (mean + half).tolist()
    return [Band(variant, metric, cost, x[at].tolist(), mean.tolist(), low, high) for cost, x in one.costs.items()]
