"""Decisions of successive halving on synthetic curves, compared with a simple implementation of the same rule."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from outcomes import outcome, trial

from gptzoo.ablation.records.selection import RungTrial, Selection
from gptzoo.ablation.selection.halving import rung_sizes, rung_steps, select
from gptzoo.ablation.statistics.analyse import analyse

Curves = dict[str, dict[int, list[float | None]]]  # by variant and seed: the loss at each step, until the run fails


def draw_curves(draw: random.Random, n: int, *, n_seeds: int = 2, n_steps: int = 27, failing: float = 0.1) -> Curves:
    """Draw curves that cross, with some equal losses."""
    curves: Curves = {}
    for index in range(n):
        end, slow = draw.uniform(1.0, 3.0), draw.uniform(0.5, 20.0)
        curves[f"v{index}"] = {}
        for seed in range(n_seeds):
            losses: list[float | None] = [
                round(end + 3 * slow / (slow + step) + draw.gauss(0, 0.05), 1) for step in range(n_steps + 1)
            ]
            if draw.random() < failing:
                losses = losses[: draw.randrange(n_steps)]
            elif draw.random() < failing:
                losses[draw.randrange(n_steps)] = None
            curves[f"v{index}"][seed] = losses
    return curves


def reading(curves: Curves, known: Callable[[str, int, int], bool] = lambda *_: True) -> Any:
    def read_trial(variant: str, seed: int, step: int) -> RungTrial:
        if not known(variant, seed, step):
            return RungTrial("running")
        losses = curves[variant][seed]
        return RungTrial("done", losses[step]) if step < len(losses) else RungTrial("failed", reason="diverged")

    return read_trial


def promoted_by_counting(curves: Curves, steps: list[int], eta: int) -> list[list[str]]:
    """Return the variants promoted from each rung, without v0, by counting for each how many are better."""
    names, promoted = [name for name in curves if name != "v0"], []
    for step in steps:
        if len(names) == 1:
            break
        means = {}
        for name in names:
            losses = [of[step] if step < len(of) else None for of in curves[name].values()]
            if None not in losses:
                means[name] = sum(losses) / len(losses)  # type: ignore[arg-type]
        places = len(names) // eta or 1
        n_better = {
            name: sum(
                means[other] < mean or (means[other] == mean and int(other[1:]) < int(name[1:])) for other in means
            )
            for name, mean in means.items()
        }
        names = sorted((name for name in means if n_better[name] < places), key=lambda name: n_better[name])
        promoted.append(names)
        names = sorted(names, key=lambda name: int(name[1:]))
        if not names:
            break
    return promoted


def selection_of(curves: Curves, eta: float = 3, known: Any = lambda *_: True) -> Selection:
    steps = {name: [1, 3, 9] for name in curves}
    return select(steps, "v0", eta=eta, seeds=[0, 1], read_trial=reading(curves, known))


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_the_promoted_variants_are_those_of_the_simple_implementation(eta: int) -> None:
    for number in range(150):
        draw = random.Random(number)
        curves = draw_curves(draw, draw.randrange(2, 40), failing=draw.choice([0.0, 0.1, 0.6]))
        selection = selection_of(curves, eta)
        assert [rung.promoted("v0") for rung in selection.rungs] == promoted_by_counting(curves, [1, 3, 9], eta)
        if len(curves) > 2:
            assert selection.finalists == promoted_by_counting(curves, [1, 3, 9], eta)[-1]
        else:
            assert selection.finalists == ["v1"]  # it has no competitor


def test_a_rung_is_decided_when_all_its_trials_are_known_and_the_decision_stays() -> None:
    for number in range(100):
        draw = random.Random(number)
        curves = draw_curves(draw, 20)
        complete = selection_of(curves)
        hidden = {
            (name, seed, step) for name in curves for seed in (0, 1) for step in (1, 3, 9) if draw.random() < 0.02
        }
        partial = selection_of(curves, known=lambda *trial, hidden=hidden: trial not in hidden)
        n_decided = sum(rung.decided for rung in partial.rungs)
        assert partial.rungs[:n_decided] == complete.rungs[:n_decided]
        assert (partial.finalists is None) == (n_decided < len(complete.rungs))
        for rung, other in zip(partial.rungs[n_decided:], complete.rungs[n_decided:], strict=False):
            assert {entry.variant for entry in rung.entries} == {entry.variant for entry in other.entries}


def test_the_baseline_is_always_promoted_and_takes_no_place() -> None:
    curves: Curves = {f"v{index}": {0: [9.0 if index == 0 else float(index)] * 10} for index in range(10)}
    curves["v0"][0] = []  # it fails at once
    steps = {name: [1, 3] for name in curves}
    selection = select(steps, "v0", eta=3, seeds=[0], read_trial=reading(curves))
    assert [[entry.variant for entry in rung.entries] for rung in selection.rungs][1] == ["v1", "v2", "v3", "v0"]
    assert selection.finalists == ["v1"]
    assert selection.describe("v0", "val/loss") == ""
    assert selection.describe("v2", "val/loss") == "stopped at rung 2, step 3: val/loss 2.0000, rank 2 of 3, 1 promoted"
    assert selection.describe("v9", "val/loss") == "stopped at rung 1, step 1: val/loss 9.0000, rank 9 of 9, 3 promoted"
    assert selection.ranking == ["v1", "v2", "v3", "v0", "v4", "v5", "v6", "v7", "v8", "v9"]


def test_a_grid_of_200_shrinks_by_eta_in_each_rung() -> None:
    assert rung_sizes(199, 3, 3) == [199, 66, 22, 7]
    assert rung_sizes(8, 2, 5) == [8, 4, 2, 1]  # there is no rung for a single candidate
    assert rung_sizes(1, 3, 3) == [1]
    assert rung_sizes(27, 3.0, 3) == [27, 9, 3, 1]


def test_a_run_pauses_at_its_evaluations() -> None:
    assert rung_steps(2700, 10, [1 / 27, 1 / 9, 1 / 3]) == [100, 300, 900]
    assert rung_steps(500, 20, [0.05, 0.2, 1.0]) == [40, 100, 500]
    assert rung_steps(510, 100, [1.0]) == [510]
    with pytest.raises(ValueError, match=r"rung 1 is at step 100, like the next rung, .* every 100 steps"):
        rung_steps(900, 100, [1 / 27, 1 / 9, 1 / 3])
    with pytest.raises(ValueError, match="rung 1 is at the end of the run, step 100"):
        rung_steps(100, 100, [1 / 3])


def test_a_stopped_variant_is_reported_but_not_compared_or_counted_as_a_comparison() -> None:
    names = [f"v{index}" for index in range(9)]
    curves: Curves = {name: {0: [float(index)] * 2} for index, name in enumerate(names)}
    curves["v8"][0] = []
    selected = select({name: [1] for name in names}, "v0", eta=4, seeds=[0], read_trial=reading(curves))
    assert selected.finalists == ["v1", "v2"]
    losses = {"v0": {1: 2.0, 2: 2.1, 3: 2.2}, "v1": {1: 1.9, 2: 2.01, 3: 2.09}, "v2": {1: 2.0, 2: 2.2, 3: 2.2}}
    ended = [trial(name, seed, loss) for name, of in losses.items() for seed, loss in of.items()]
    whole = outcome({name: {} for name in names}, trials=ended, factorial=False, selection=selected)
    alone = outcome(losses, factorial=False)
    analysis, expected = analyse(whole), analyse(alone)
    assert list(analysis.comparisons[:2]) == list(expected.comparisons)  # two comparisons in the family, not eight
    assert list(analysis.ranking) == list(expected.ranking)
    by_variant = {
        comparison.variant: (comparison.verdict, comparison.sentence) for comparison in analysis.comparisons[2:]
    }
    assert list(by_variant) == ["v3", "v4", "v5", "v6", "v7", "v8"]
    assert by_variant["v4"] == (
        "stopped",
        "v4 was stopped at rung 1, step 1: val/loss 4.0000, rank 4 of 8, 2 promoted. Its final val/loss is unknown.",
    )
    assert by_variant["v8"] == ("no data", "v8 failed before rung 1, step 1: seed 0: diverged.")
    assert "5 variants of 9 were stopped early, by seed 0, which no comparison uses" in " ".join(analysis.notes)
