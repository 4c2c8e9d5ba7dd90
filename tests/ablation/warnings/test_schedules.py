"""Warnings about warmups that differ between variants."""

from __future__ import annotations

from typing import Any

from gptzoo.ablation.warnings.schedules import ScheduledRun, confounded_warmups, unequal_schedules
from gptzoo.reference import Reference


def run(n_steps: int, *, elsewhere: bool = True, **options: Any) -> ScheduledRun:
    schedule = Reference("schedule").validate({"type": "cosine", **options}, {})
    return ScheduledRun(schedule, n_steps, differs_elsewhere=elsewhere)


def test_a_warmup_that_is_a_larger_share_of_one_variant_is_a_warning() -> None:
    runs = {"long": run(400, warmup_steps=40), "short": run(100, warmup_steps=40)}
    (warning,) = unequal_schedules(runs)
    assert (warning.kind, warning.variants) == ("schedule", ["long", "short"])
    assert warning.text.startswith("Warmup is another share of each run: 40 of 400 steps (10%) of long, and 40 of 100")


def test_a_warmup_that_is_a_fraction_or_of_equal_runs_is_no_warning() -> None:
    assert not list(unequal_schedules({"long": run(400, warmup_fraction=0.1), "short": run(100, warmup_fraction=0.1)}))
    assert not list(unequal_schedules({"a": run(100, warmup_steps=40), "b": run(100, warmup_steps=40)}))


def test_a_different_warmup_besides_other_differences_is_a_warning() -> None:
    runs = {"base": run(200, warmup_steps=10), "other": run(200, warmup_steps=60)}
    (warning,) = confounded_warmups(runs, "base")
    assert (warning.kind, warning.variants) == ("schedule", ["other"])
    assert "Warmup is 5% of the run of base, and 30% of the run of other" in warning.text


def test_a_different_warmup_that_is_the_only_difference_is_no_warning() -> None:
    runs = {"base": run(200, warmup_steps=10), "other": run(200, elsewhere=False, warmup_steps=60)}
    assert not list(confounded_warmups(runs, "base"))
    equal = {"base": run(200, warmup_steps=10), "other": run(200, warmup_steps=10, min_ratio=0.3)}
    assert not list(confounded_warmups(equal, "base"))
