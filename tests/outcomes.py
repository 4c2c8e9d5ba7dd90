"""Outcomes for tests: made from endpoints without training, and endpoints recorded from real runs."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.records.scores import Score
from gptzoo.ablation.records.trial import TrialOutcome

RECORDED = Path(__file__).parent / "ablation" / "data" / "seed_noise.csv"

ACCURACY = {"base": [0.30, 0.35, 0.31, 0.36], "good": [0.41, 0.44, 0.43, 0.46], "bad": [0.31, 0.34, 0.32, 0.35]}
BITS = {"base": [1.2, 1.3, 1.1, 1.25], "good": [1.1, 1.2, 1.02, 1.14], "bad": [1.5, 1.6, 1.41, 1.54]}

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
        "level": 0.05,
        "power": 0.8,
        "variants": [variant(name, {"model.attention": name}) for name in losses],
        "trials": [trial(name, seed, loss) for name, by_seed in losses.items() for seed, loss in by_seed.items()],
    }
    return Outcome(**(defaults | options))


def scored(**harness: Any) -> Outcome:
    """Return an ablation whose trials have two scores, ACCURACY and BITS, but the last of "bad".

    harness: options of the spec's field of this name, besides the tasks.
    """
    made = outcome({name: dict.fromkeys(range(4), 2.0) for name in ACCURACY})
    trials = []
    for each in made.trials:
        accuracy, bits = (values[each.variant][each.seed] for values in (ACCURACY, BITS))
        scores = {"quiz": {"acc": Score(accuracy, True)}, "page": {"bits_per_byte": Score(bits, None)}}
        failed = (each.variant, each.seed) == ("bad", 3)
        trials.append(replace(each, **({"unscored": "out of memory"} if failed else {"scores": scores})))
    return replace(made, trials=trials, spec={"harness": {"tasks": ["quiz", "page"], **harness}})


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
