"""Ablations that need no training: outcomes from endpoints, and the endpoints that were recorded of real runs."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.records.trial import TrialOutcome

RECORDED = Path(__file__).parent / "ablation" / "data" / "seed_noise.csv"

Losses = Mapping[str, Mapping[int, float | None]]  # by variant and seed; None is a trial that failed


@cache
def recorded() -> dict[str, dict[int, float]]:
    """Losses by variant and seed, as `benchmarks/seed_noise.py` wrote them."""
    found: dict[str, dict[int, float]] = {}
    with RECORDED.open() as file:
        for row in csv.DictReader(file):
            found.setdefault(row["variant"], {})[int(row["seed"])] = float(row["loss"])
    return found


def trial(variant: str, seed: int, loss: float | None) -> TrialOutcome:
    """One that ended with this loss, or failed."""
    if loss is None:
        return TrialOutcome(variant, seed, "failed", "diverged: the loss is nan")
    return TrialOutcome(variant, seed, "done", rows=[{"step": 0, "val/loss": 5.5}, {"step": 10, "val/loss": loss}])


def outcome(losses: Losses, **options: Any) -> Outcome:
    """An ablation along one axis, whose baseline comes first."""
    given: dict[str, Any] = {
        "name": "made-up",
        "folder": Path("made-up"),
        "baseline": next(iter(losses)),
        "axes": {"model.attention": list(losses)},
        "factorial": True,
        "metric": "val/loss",
        "paired": True,
        "margin": 0.01,
        "alpha": 0.05,
        "power": 0.8,
        "variants": [variant(name, {"model.attention": name}) for name in losses],
        "trials": [trial(name, seed, loss) for name, of in losses.items() for seed, loss in of.items()],
    }
    return Outcome(**(given | options))


def variant(name: str, choices: Mapping[str, str], **options: Any) -> Variant:
    return Variant(
        **({"n_parameters": 1000, "flops_per_token": 6000.0, "cache_bytes": 64} | options), name=name, choices=choices
    )


def factorial(axes: Mapping[str, Sequence[str]], losses: Losses, **options: Any) -> Outcome:
    """All combinations of the axes that have losses, by names like "sdpa-rope"; the first is the baseline."""
    points = [dict(zip(axes, labels, strict=True)) for labels in itertools.product(*axes.values())]
    variants = [variant("-".join(point.values()), point) for point in points if "-".join(point.values()) in losses]
    return outcome(losses, axes=axes, variants=variants, **options)
