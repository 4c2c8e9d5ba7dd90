"""Outcomes for tests: made from endpoints without training, and endpoints recorded from real runs."""

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

Losses = Mapping[str, Mapping[int, float | None]]  # by variant and seed; None means that the trial failed


@cache
def recorded() -> dict[str, dict[int, float]]:
    """Return the losses that `benchmarks/seed_noise.py` recorded, by variant and seed."""
    losses: dict[str, dict[int, float]] = {}
    with RECORDED.open() as file:
        for row in csv.DictReader(file):
            losses.setdefault(row["variant"], {})[int(row["seed"])] = float(row["loss"])
    return losses


def trial(variant: str, seed: int, loss: float | None) -> TrialOutcome:
    """Return a trial that ended with this loss, or failed if it is None."""
    if loss is None:
        return TrialOutcome(variant, seed, "failed", "diverged: the loss is nan")
    return TrialOutcome(variant, seed, "done", rows=[{"step": 0, "val/loss": 5.5}, {"step": 10, "val/loss": loss}])


def outcome(losses: Losses, **options: Any) -> Outcome:
    """Return the outcome of an ablation along one axis. The first variant is the baseline."""
    defaults: dict[str, Any] = {
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
        "trials": [trial(name, seed, loss) for name, by_seed in losses.items() for seed, loss in by_seed.items()],
    }
    return Outcome(**(defaults | options))


def variant(name: str, choices: Mapping[str, str], **options: Any) -> Variant:
    return Variant(
        **({"n_parameters": 1000, "flops_per_token": 6000.0, "cache_bytes": 64} | options), name=name, choices=choices
    )


def factorial(axes: Mapping[str, Sequence[str]], losses: Losses, **options: Any) -> Outcome:
    """Return the outcome of a factorial design. The variants are the combinations that have losses, by names such as
    "sdpa-rope"; the first is the baseline."""
    points = [dict(zip(axes, labels, strict=True)) for labels in itertools.product(*axes.values())]
    variants = [variant("-".join(point.values()), point) for point in points if "-".join(point.values()) in losses]
    return outcome(losses, axes=axes, variants=variants, **options)
