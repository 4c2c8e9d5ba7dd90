"""Curves over seeds, and losses where all have cost the same."""

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
from gptzoo.ablation.statistics.curves import MOST_POINTS, bands, matched


def rows(losses: dict[int, float], *, rate: float = 100.0, tokens: int = 10) -> list[dict[str, Any]]:
    """Metrics as a run writes them: evaluated at some steps, and with the rate and training loss of each step."""
    last = max(losses)
    steps = [
        {"step": step, "tokens": step * tokens, "train/loss": 5.0 - step / last, "tokens_per_second": rate}
        for step in range(1, last + 1)
    ]
    return [row | ({"val/loss": losses[row["step"]]} if row["step"] in losses else {}) for row in [{"step": 0}, *steps]]


def ablation(**of: list[list[dict[str, Any]]]) -> Outcome:
    """One variant each, with a trial for each list of rows."""
    trials = [
        TrialOutcome(name, seed, "done", rows=some) for name, seeds in of.items() for seed, some in enumerate(seeds)
    ]
    return dataclasses.replace(outcome({name: {} for name in of}), trials=trials)


def band(found: list[Band], **where: str) -> Band:
    (one,) = (b for b in found if all(getattr(b, name) == value for name, value in where.items()))
    return one


def test_a_band_is_the_mean_over_seeds_with_its_interval_at_the_steps_that_all_have() -> None:
    made = ablation(a=[rows({0: 5.0, 2: 4.0, 4: 3.0}), rows({0: 5.0, 1: 4.6, 2: 4.2, 4: 3.4})])
    one = band(bands(made), metric="val/loss", against="step")
    assert one.x == [0, 2, 4]
    assert one.mean == pytest.approx([5.0, 4.1, 3.2])
    half = 12.706204736 * np.std([4.0, 4.2], ddof=1) / np.sqrt(2)  # t of one degree of freedom
    assert one.high[1] == pytest.approx(4.1 + half)
    assert one.low[0] == one.high[0] == 5.0


def test_a_band_is_drawn_against_each_cost() -> None:
    made = ablation(a=[rows({0: 5.0, 2: 4.0}, rate=100.0), rows({0: 5.0, 2: 4.0}, rate=50.0)])
    found = {one.against: one.x for one in bands(made) if one.metric == "val/loss"}
    assert found == {
        "step": [0, 2],
        "tokens": [0, 20],
        "flops": [0, 20 * 6000.0],
        "seconds": [0, pytest.approx((0.2 + 0.4) / 2)],
    }


def test_one_seed_has_a_line_and_no_interval() -> None:
    one = band(bands(ablation(a=[rows({0: 5.0, 2: 4.0})])), metric="val/loss", against="step")
    assert (one.mean, one.low, one.high) == ([5.0, 4.0], [None, None], [None, None])


def test_costs_that_nobody_knows_are_left_out() -> None:
    made = ablation(a=[[{"step": 0, "val/loss": 5.0}, {"step": 1, "tokens": 10, "val/loss": 4.0}]])
    unknown = dataclasses.replace(made, variants=[variant("a", {}, flops_per_token=None)])
    assert {one.against for one in bands(unknown)} == {"step", "tokens"}


def test_long_curves_are_thinned_and_keep_both_ends() -> None:
    one = band(bands(ablation(a=[rows({5000: 3.0})])), metric="train/loss", against="step")
    assert len(one.x) == MOST_POINTS
    assert (one.x[0], one.x[-1]) == (1, 5000)


def test_a_failed_trial_bends_no_curve_of_those_that_went_well() -> None:
    made = ablation(a=[rows({0: 5.0, 4: 3.0}), rows({0: 5.0, 1: 9.0})])
    failed = dataclasses.replace(made.trials[1], state="failed")
    one = band(bands(dataclasses.replace(made, trials=[made.trials[0], failed])), metric="val/loss", against="step")
    assert (one.x, one.mean) == ([0, 4], [5.0, 3.0])
    alone = band(bands(dataclasses.replace(made, trials=[failed])), metric="val/loss", against="step")
    assert alone.mean == [5.0, 9.0]  # there is nothing else to be seen of it


def test_losses_are_matched_at_the_cost_of_the_cheapest() -> None:
    curve = {step: 5.0 - step / 10 for step in range(21)}
    made = ablation(cheap=[rows({0: 5.0, 9: 3.0})], dear=[rows(curve)])
    at = matched(made)["flops"]
    assert at.cost == 9 * 10 * 6000.0
    assert {name: one.value for name, one in at.losses.items()} == pytest.approx({"cheap": 3.0, "dear": 4.1})
    assert (at.cut_short, at.untold) == (["dear"], [])
    heavier = [variant("cheap", {}), variant("dear", {}, flops_per_token=8000.0)]
    at = matched(dataclasses.replace(made, variants=heavier))["flops"]
    assert at.losses["dear"].value == pytest.approx(5.0 - 9 * 6 / 8 / 10)


def test_between_evaluations_far_apart_no_loss_is_told() -> None:
    made = ablation(cheap=[rows({0: 5.0, 10: 3.0})], dear=[rows({0: 5.0, 20: 2.0})])
    at = matched(made)["flops"]
    assert (set(at.losses), at.cut_short, at.untold) == ({"cheap"}, ["dear"], ["dear"])
    assert any(note.startswith("Losses at equal flops are not told of dear") for note in analyse(made).notes)


def test_losses_are_matched_in_seconds_too_and_at_equal_cost_are_the_endpoints() -> None:
    curve = {step: 5.0 - step / 10 for step in range(11)}
    made = ablation(a=[rows({0: 5.0, 10: 3.0}, rate=200.0)], b=[rows(curve, rate=100.0)])
    found = matched(made)
    assert found["seconds"].cost == pytest.approx(0.5)
    assert found["seconds"].losses["b"].value == pytest.approx(4.5)
    assert found["seconds"].cut_short == ["b"]
    assert {name: one.value for name, one in found["flops"].losses.items()} == {"a": 3.0, "b": 4.0}
    assert found["flops"].cut_short == []


def test_nothing_is_matched_where_a_cost_is_unknown() -> None:
    made = ablation(a=[rows({0: 5.0, 10: 3.0})], b=[rows({0: 5.0, 10: 2.0})])
    unknown = dataclasses.replace(made, variants=[variant("a", {}), variant("b", {}, flops_per_token=None)])
    assert set(matched(unknown)) == {"seconds"}
