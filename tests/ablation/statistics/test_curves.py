"""Confidence bands over seeds, and losses at equal cost."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from outcomes import outcome, variant

from gptzoo.ablation.records.analysis import Band
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.ablation.statistics.curves import MAX_BAND_POINTS, curve_bands, losses_at_equal_cost


def rows(losses: dict[int, float], *, rate: float = 100.0, tokens: int = 10) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl: training loss and speed at each step, and the given validation losses."""
    last = max(losses)
    steps = [
        {"step": step, "tokens": step * tokens, "train/loss": 5.0 - step / last, "tokens_per_second": rate}
        for step in range(1, last + 1)
    ]
    return [row | ({"val/loss": losses[row["step"]]} if row["step"] in losses else {}) for row in [{"step": 0}, *steps]]


def ablation(**rows_by_variant: list[list[dict[str, Any]]]) -> Outcome:
    """Return an outcome with a variant per argument and a trial per list of rows."""
    trials = [
        TrialOutcome(name, seed, "done", rows=trial_rows)
        for name, seeds in rows_by_variant.items()
        for seed, trial_rows in enumerate(seeds)
    ]
    return dataclasses.replace(outcome({name: {} for name in rows_by_variant}), trials=trials)


def only_band(bands: list[Band], **where: str) -> Band:
    (only,) = (b for b in bands if all(getattr(b, name) == value for name, value in where.items()))
    return only


def test_a_band_is_the_mean_over_seeds_with_its_interval_at_shared_steps() -> None:
    ended = ablation(a=[rows({0: 5.0, 2: 4.0, 4: 3.0}), rows({0: 5.0, 1: 4.6, 2: 4.2, 4: 3.4})])
    band = only_band(curve_bands(ended), metric="val/loss", against="step")
    assert band.x == [0, 2, 4]
    assert band.mean == pytest.approx([5.0, 4.1, 3.2])
    half_width = 12.706204736 * np.std([4.0, 4.2], ddof=1) / np.sqrt(2)  # Student's t with one degree of freedom
    assert band.high[1] == pytest.approx(4.1 + half_width)
    assert band.low[0] == band.high[0] == 5.0


def test_there_is_a_band_for_each_cost() -> None:
    ended = ablation(a=[rows({0: 5.0, 2: 4.0}, rate=100.0), rows({0: 5.0, 2: 4.0}, rate=50.0)])
    x_by_cost = {b.against: b.x for b in curve_bands(ended) if b.metric == "val/loss"}
    assert x_by_cost == {
        "step": [0, 2],
        "tokens": [0, 20],
        "flops": [0, 20 * 6000.0],
        "seconds": [0, pytest.approx((0.2 + 0.4) / 2)],
    }


def test_the_band_of_one_seed_has_no_interval() -> None:
    band = only_band(curve_bands(ablation(a=[rows({0: 5.0, 2: 4.0})])), metric="val/loss", against="step")
    assert (band.mean, band.low, band.high) == ([5.0, 4.0], [None, None], [None, None])


def test_unknown_costs_are_omitted() -> None:
    ended = ablation(a=[[{"step": 0, "val/loss": 5.0}, {"step": 1, "tokens": 10, "val/loss": 4.0}]])
    unknown = dataclasses.replace(ended, variants=[variant("a", {}, flops_per_token=None)])
    assert {b.against for b in curve_bands(unknown)} == {"step", "tokens"}


def test_long_curves_are_subsampled_and_keep_both_ends() -> None:
    band = only_band(curve_bands(ablation(a=[rows({5000: 3.0})])), metric="train/loss", against="step")
    assert len(band.x) == MAX_BAND_POINTS
    assert (band.x[0], band.x[-1]) == (1, 5000)


def test_failed_trials_are_excluded_from_curves_if_others_are_done() -> None:
    ended = ablation(a=[rows({0: 5.0, 4: 3.0}), rows({0: 5.0, 1: 9.0})])
    failed = dataclasses.replace(ended.trials[1], state="failed")
    band = only_band(
        curve_bands(dataclasses.replace(ended, trials=[ended.trials[0], failed])), metric="val/loss", against="step"
    )
    assert (band.x, band.mean) == ([0, 4], [5.0, 3.0])
    alone = only_band(curve_bands(dataclasses.replace(ended, trials=[failed])), metric="val/loss", against="step")
    assert alone.mean == [5.0, 9.0]


def test_losses_are_compared_at_the_total_cost_of_the_cheapest_variant() -> None:
    curve = {step: 5.0 - step / 10 for step in range(21)}
    ended = ablation(cheap=[rows({0: 5.0, 9: 3.0})], expensive=[rows(curve)])
    at = losses_at_equal_cost(ended)["flops"]
    assert at.cost == 9 * 10 * 6000.0
    assert {name: loss.value for name, loss in at.losses.items()} == pytest.approx({"cheap": 3.0, "expensive": 4.1})
    assert (at.cut_short, at.untold) == (["expensive"], [])
    heavier = [variant("cheap", {}), variant("expensive", {}, flops_per_token=8000.0)]
    at = losses_at_equal_cost(dataclasses.replace(ended, variants=heavier))["flops"]
    assert at.losses["expensive"].value == pytest.approx(5.0 - 9 * 6 / 8 / 10)


def test_losses_are_not_interpolated_between_distant_evaluations() -> None:
    ended = ablation(cheap=[rows({0: 5.0, 10: 3.0})], expensive=[rows({0: 5.0, 20: 2.0})])
    at = losses_at_equal_cost(ended)["flops"]
    assert (set(at.losses), at.cut_short, at.untold) == ({"cheap"}, ["expensive"], ["expensive"])
    assert any(note.startswith("Losses at equal flops of expensive are not shown") for note in analyse(ended).notes)


def test_losses_are_compared_at_equal_seconds_and_equal_flops() -> None:
    curve = {step: 5.0 - step / 10 for step in range(11)}
    ended = ablation(a=[rows({0: 5.0, 10: 3.0}, rate=200.0)], b=[rows(curve, rate=100.0)])
    matched = losses_at_equal_cost(ended)
    assert matched["seconds"].cost == pytest.approx(0.5)
    assert matched["seconds"].losses["b"].value == pytest.approx(4.5)
    assert matched["seconds"].cut_short == ["b"]
    assert {name: loss.value for name, loss in matched["flops"].losses.items()} == {"a": 3.0, "b": 4.0}
    assert matched["flops"].cut_short == []


def test_losses_at_a_cost_that_is_not_known_for_all_variants_are_omitted() -> None:
    ended = ablation(a=[rows({0: 5.0, 10: 3.0})], b=[rows({0: 5.0, 10: 2.0})])
    unknown = dataclasses.replace(ended, variants=[variant("a", {}), variant("b", {}, flops_per_token=None)])
    assert set(losses_at_equal_cost(unknown)) == {"seconds"}
