"""Main effects and interactions of factorial designs, complete and with missing cells."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from outcomes import factorial
from scipy import stats

from gptzoo.ablation.records.analysis import Analysis, Effect
from gptzoo.ablation.statistics.analyse import analyse

AXES = {"model.attention": ["sdpa", "naive"], "model.positional": ["rope", "none", "alibi"]}
CHOICE_EFFECTS = {"sdpa": 0.0, "naive": 0.1, "rope": 0.0, "none": 0.3, "alibi": -0.2}
INTERACTIONS = {("naive", "alibi"): 0.5}
CELLS = list(itertools.product(*AXES.values()))


def losses(
    rng: np.random.Generator, *, sd: float = 0.01, n: int = 5, seed_sd: float = 0.0
) -> dict[str, dict[int, Any]]:
    """Return losses with additive choices, one interaction, and noise per run and per seed."""
    seeds = rng.normal(0, seed_sd, n) if seed_sd else np.zeros(n)
    return {
        f"{a}-{p}": dict(
            enumerate(
                3 + CHOICE_EFFECTS[a] + CHOICE_EFFECTS[p] + INTERACTIONS.get((a, p), 0) + rng.normal(0, sd, n) + seeds
            )
        )
        for a, p in CELLS
    }


def effects(analysis: Analysis) -> dict[tuple[str, ...], Effect]:
    return {tuple(effect.choices.values()): effect for effect in analysis.effects}


@pytest.mark.parametrize("paired", [True, False])
def test_main_effects_are_averages_and_interactions_are_beyond_their_sum(paired: bool) -> None:
    by_choices = effects(analyse(factorial(AXES, losses(np.random.default_rng(1)), paired=paired)))
    expected = {
        ("naive",): 0.1 + 0.5 / 3,  # over rope, none and alibi
        ("none",): 0.3,
        ("alibi",): -0.2 + 0.5 / 2,  # over sdpa and naive
        ("naive", "none"): 0.0,
        ("naive", "alibi"): 0.5,
    }
    assert {name: effect.estimate.value for name, effect in by_choices.items()} == pytest.approx(expected, abs=0.02)
    assert by_choices["none",].reference == {"model.positional": "rope"}
    assert by_choices["none",].sentence.startswith("none is worse than rope by 0.")
    assert by_choices["naive", "alibi"].reference == {"model.attention": "sdpa", "model.positional": "rope"}
    assert by_choices["naive", "alibi"].sentence.startswith("naive with alibi is worse than the sum of both by 0.5")
    assert by_choices["naive", "none"].verdict in ("same", "cannot tell")


def test_paired_effects_equal_least_squares_with_seeds_as_blocks() -> None:
    """Two levels per axis, coded as +1/2 and -1/2, with an indicator variable per seed."""
    axes = {"model.attention": ["sdpa", "naive"], "model.positional": ["rope", "none"]}
    rng = np.random.default_rng(2)
    endpoints = {name: of for name, of in losses(rng, sd=0.05, seed_sd=1.0).items() if "alibi" not in name}
    rows, y = [], []
    for (i, a), (j, p) in itertools.product(enumerate(axes["model.attention"]), enumerate(axes["model.positional"])):
        for seed, loss in endpoints[f"{a}-{p}"].items():
            block = [float(seed == s) for s in range(5)]
            rows.append([i - 0.5, j - 0.5, (i - 0.5) * (j - 0.5), *block])
            y.append(loss)
    coefficients = np.linalg.lstsq(np.array(rows), np.array(y), rcond=None)[0]
    by_choices = effects(analyse(factorial(axes, endpoints)))
    values = [by_choices[name].estimate.value for name in [("naive",), ("none",), ("naive", "none")]]
    assert values == pytest.approx([coefficients[0], coefficients[1], coefficients[2]])


def test_pairing_removes_the_noise_of_seeds() -> None:
    endpoints = losses(np.random.default_rng(3), sd=0.01, seed_sd=1.0)
    assert effects(analyse(factorial(AXES, endpoints)))["none",].verdict == "worse"
    assert effects(analyse(factorial(AXES, endpoints, paired=False)))["none",].verdict == "cannot tell"


def test_incomplete_combinations_are_excluded_from_averages_and_noted() -> None:
    endpoints = losses(np.random.default_rng(4), sd=0.001)
    del endpoints["naive-alibi"]
    analysis = analyse(factorial(AXES, endpoints))
    by_choices = effects(analysis)
    assert by_choices["naive",].estimate.value == pytest.approx(0.1, abs=0.01)  # over rope and none
    assert by_choices["alibi",].estimate.value == pytest.approx(-0.2, abs=0.01)  # with sdpa
    assert ("naive", "alibi") not in by_choices
    assert any(note.startswith("The effect of naive with alibi cannot be estimated") for note in analysis.notes)
    assert any(note.startswith("The effect of naive is an average over 2 of 3 combinations") for note in analysis.notes)


def test_a_failed_trial_removes_its_seed_from_the_effects_that_use_it() -> None:
    endpoints = losses(np.random.default_rng(5))
    endpoints["naive-none"][2] = None
    analysis = analyse(factorial(AXES, endpoints))
    by_choices = effects(analysis)
    assert by_choices["naive",].estimate.n == 4
    assert by_choices["alibi",].estimate.n == 5
    assert any(note.startswith("The effect of naive uses 4 of 5 seeds") for note in analysis.notes)


def test_a_design_that_is_not_factorial_has_no_effects() -> None:
    endpoints = losses(np.random.default_rng(6))
    assert analyse(factorial(AXES, endpoints, factorial=False)).effects == []
    one_axis = {"model.attention": ["sdpa"], "model.positional": AXES["model.positional"]}
    assert analyse(factorial(one_axis, {n: of for n, of in endpoints.items() if "sdpa" in n})).effects == []


@pytest.mark.slow
def test_nonexistent_effects_are_found_no_more_often_than_alpha() -> None:
    rng = np.random.default_rng(7)
    called = 0
    for _ in range(100):
        endpoints = {f"{a}-{p}": dict(enumerate(rng.normal(size=3))) for a, p in CELLS}
        analysis = analyse(factorial(AXES, endpoints, paired=False))
        called += any(effect.verdict in ("better", "worse") for effect in analysis.effects)
    assert called <= stats.binom.ppf(0.999, 100, 0.05)
