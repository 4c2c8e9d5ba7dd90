"""Which variants are worth their cost: the front of loss against parameters, time and memory."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, median

from gptzoo.ablation.records.analysis import Point
from gptzoo.ablation.records.outcome import Outcome


def fronts(outcome: Outcome, losses: Mapping[str, float]) -> dict[str, list[Point]]:
    """By cost, the points of all variants that have it, from cheap to dear; without costs that fewer than two have."""
    names = [variant for variant in outcome.variants if variant.name in losses]
    costs: dict[str, dict[str, float | None]] = {
        "parameters": {v.name: v.n_parameters for v in names},
        "seconds per token": {v.name: seconds_per_token(outcome, v.name) for v in names},
        "memory": {v.name: v.memory_bytes for v in names},
        "cache": {v.name: v.cache_bytes for v in names},
    }
    known = {what: {n: c for n, c in of.items() if c is not None} for what, of in costs.items()}
    return {what: front(losses, of, outcome.margin) for what, of in known.items() if len(of) > 1}


def front(losses: Mapping[str, float], costs: Mapping[str, float], margin: float = 0.0) -> list[Point]:
    """The variants of `costs`, from cheap to dear.

    On the front is who is better by more than the margin than everybody cheaper on it, and who is as good, to within
    the margin, as one of the same cost that is.
    """
    points: list[Point] = []
    for name in sorted(costs, key=lambda name: (costs[name], losses[name], name)):
        loss, cost = losses[name], costs[name]
        ahead = [point for point in points if point.on_front]
        cheaper = all(loss < point.loss - margin for point in ahead if point.cost < cost)
        as_dear = all(loss <= point.loss + margin for point in ahead if point.cost == cost)
        points.append(Point(name, loss, cost, on_front=cheaper and as_dear))
    return points


def seconds_per_token(outcome: Outcome, variant: str) -> float | None:
    """Of training: the median over the steps of a trial, as the first ones are slow, and the mean over trials."""
    rates = [
        median(1 / row["tokens_per_second"] for row in trial.rows if row.get("tokens_per_second"))
        for trial in outcome.trials_of(variant)
        if trial.state == "done" and any(row.get("tokens_per_second") for row in trial.rows)
    ]
    return mean(rates) if rates else None
