"""Pareto fronts of loss against cost: parameters, training time, and memory."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, median

from gptzoo.ablation.records.analysis import ParetoPoint
from gptzoo.ablation.records.outcome import Outcome


def pareto_fronts(outcome: Outcome, losses: Mapping[str, float]) -> dict[str, list[ParetoPoint]]:
    """Return the points of all variants by cost, cheapest first. Costs known for fewer than two variants are omitted.

    Results on different tasks do not compare, so there are none.

    losses: mean final metric by variant.
    """
    if outcome.task_axes:
        return {}
    variants = [variant for variant in outcome.variants if variant.name in losses]
    costs: dict[str, dict[str, float | None]] = {
        "parameters": {v.name: v.n_parameters for v in variants},
        "seconds per token": {v.name: seconds_per_token(outcome, v.name) for v in variants},
        "memory": {v.name: v.memory_bytes for v in variants},
        "cache": {v.name: v.cache_bytes for v in variants},
    }
    known = {
        cost: {name: value for name, value in by_variant.items() if value is not None}
        for cost, by_variant in costs.items()
    }
    return {
        cost: pareto_front(losses, by_variant, outcome.margin, higher_is_better=outcome.higher_is_better)
        for cost, by_variant in known.items()
        if len(by_variant) > 1
    }


def pareto_front(
    losses: Mapping[str, float], costs: Mapping[str, float], margin: float = 0.0, *, higher_is_better: bool = False
) -> list[ParetoPoint]:
    """Return the variants in `costs`, cheapest first, and mark those on the front.

    A variant is on the front if its loss is lower, by more than the margin, than that of every cheaper variant on the
    front. If several variants have the same cost, those within the margin of the best one are on the front.

    higher_is_better: `losses` are values of a metric that is higher for better variants.
    """
    sign = -1 if higher_is_better else 1
    points: list[ParetoPoint] = []
    for name in sorted(costs, key=lambda name: (costs[name], sign * losses[name], name)):
        loss, cost = losses[name], costs[name]
        front = [point for point in points if point.on_front]
        beats_cheaper = all(sign * loss < sign * point.loss - margin for point in front if point.cost < cost)
        equals_same_cost = all(sign * loss <= sign * point.loss + margin for point in front if point.cost == cost)
        points.append(ParetoPoint(name, loss, cost, on_front=beats_cheaper and equals_same_cost))
    return points


def seconds_per_token(outcome: Outcome, variant: str) -> float | None:
    """Return the training time per token, averaged over trials.

    In each trial it is the median over steps, because the first steps are slow. Return None if it was not measured.
    """
    medians = [
        median(1 / row["tokens_per_second"] for row in trial.rows if row.get("tokens_per_second"))
        for trial in outcome.trials_of(variant)
        if trial.state == "done" and any(row.get("tokens_per_second") for row in trial.rows)
    ]
    return mean(medians) if medians else None
