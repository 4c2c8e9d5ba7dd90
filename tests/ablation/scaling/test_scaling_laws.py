"""Fits of scaling laws equal those of scipy and hold their coverage, and wrong laws are reported."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import optimize, stats

from gptzoo.ablation.scaling.analyse import analyse_ladder
from gptzoo.ablation.scaling.power_law import PowerLawFit, ScalingPoint
from gptzoo.ablation.scaling.result import LadderAnalysis

Law = Callable[[float], float]

PARAMETERS = np.geomspace(6e4, 1e6, 5)
FLOPS = 120 * PARAMETERS**2  # 6 N D with 20 tokens per parameter
FLOOR = 1.2
NOISE = 0.006
EXPONENTS = {"baseline": 0.16, "variant": 0.17}
FACTORS = {"baseline": 1.0, "variant": 0.95}


def power_law(name: str, compute: float) -> float:
    return FLOOR + FACTORS[name] * (compute / FLOPS[0]) ** -EXPONENTS[name]


LAWS: dict[str, Law] = {name: lambda c, name=name: power_law(name, c) for name in EXPONENTS}  # type: ignore[misc]


def true_multiplier(compute: float) -> float:
    """Return the multiplier by solving for the compute of the baseline, not by a formula."""
    target = power_law("variant", compute)
    needed = optimize.brentq(lambda log: power_law("baseline", math.exp(log)) - target, 0, 100)
    return math.exp(needed) / compute


def ladder(
    rng: np.random.Generator,
    n_seeds: int,
    *,
    n_sizes: int = 4,
    laws: dict[str, Law] = LAWS,
    noise: float = NOISE,
) -> list[ScalingPoint]:
    return [
        ScalingPoint(
            name,
            int(n),
            int(20 * n),
            float(c),
            tuple((law(float(c)) + noise * rng.standard_normal(n_seeds)).tolist()),
        )
        for name, law in laws.items()
        for n, c in zip(PARAMETERS[:n_sizes], FLOPS[:n_sizes], strict=True)
    ]


def reference_fit(points: Sequence[ScalingPoint]) -> tuple[np.ndarray, np.ndarray]:
    """Fit E, log A and a of two variants to single losses with scipy's `curve_fit`, by numerical derivatives."""
    rows = [(p.variant == "variant", p.flops / FLOPS[0], loss) for p in points for loss in p.losses]
    is_variant, compute, losses = (np.array(column) for column in zip(*rows, strict=True))

    def law(_: object, floor: float, log_a: float, a: float, log_b: float, b: float) -> np.ndarray:
        return floor + np.where(is_variant, np.exp(log_b) * compute**-b, np.exp(log_a) * compute**-a)

    return optimize.curve_fit(
        law, compute, losses, p0=[1.0, 0.0, 0.2, 0.0, 0.2], sigma=np.ones(len(losses)), absolute_sigma=True, ftol=1e-14
    )


def test_the_fit_equals_that_of_scipy_in_other_parameters() -> None:
    points = ladder(np.random.default_rng(3), 3)
    fit = PowerLawFit(points, "baseline")
    (floor, log_a, a, log_b, b), covariance = reference_fit(points)
    assert fit.irreducible == pytest.approx(floor, rel=1e-5)
    assert [fit.exponent("baseline"), fit.exponent("variant")] == pytest.approx([a, b], rel=1e-5)
    variances = [np.var(p.losses, ddof=1) for p in points]
    assert fit.noise == pytest.approx(math.sqrt(np.mean(variances)))
    x = math.log(FLOPS[4] / FLOPS[0])
    expected = ((b - a) * x + log_a - log_b) / a
    multiplier = fit.log_multiplier("variant", FLOPS[4])
    assert multiplier.estimate == pytest.approx(expected, rel=1e-5)
    gradient = np.array([0, 1 / a, -((b * x + log_a - log_b) / a**2), -1 / a, x / a])
    error = fit.noise * math.sqrt(gradient @ covariance @ gradient)
    assert multiplier.high - multiplier.estimate == pytest.approx(stats.t.ppf(0.975, 16) * error, rel=1e-3)
    assert fit.trend("variant").estimate == pytest.approx(b / a - 1, rel=1e-4)
    loss = fit.loss("variant", FLOPS[4])
    assert loss.estimate == pytest.approx(floor + math.exp(log_b - b * x), rel=1e-6)


def test_the_lack_of_fit_is_the_classical_f_test() -> None:
    points = ladder(np.random.default_rng(4), 3)
    test = PowerLawFit(points, "baseline").lack_of_fit
    (floor, log_a, a, log_b, b), _ = reference_fit(points)
    logs = {"baseline": (log_a, a), "variant": (log_b, b)}
    within = sum(np.var(p.losses) * 3 for p in points)
    between = sum(
        3
        * (np.mean(p.losses) - floor - math.exp(logs[p.variant][0]) * (p.flops / FLOPS[0]) ** -logs[p.variant][1]) ** 2
        for p in points
    )
    statistic = (between / 3) / (within / 16)  # 8 means, 5 parameters; 8 x 2 degrees of freedom between seeds
    assert test is not None
    assert test.df == (3, 16)
    assert test.statistic == pytest.approx(statistic, rel=1e-4)
    assert test.p_value == pytest.approx(1 - stats.f.cdf(statistic, 3, 16), rel=1e-4)


def test_exact_laws_without_noise_are_recovered() -> None:
    exact = ladder(np.random.default_rng(0), 2, noise=1e-9)
    fit = PowerLawFit(exact, "baseline")
    assert fit.irreducible == pytest.approx(FLOOR, abs=1e-5)
    assert fit.exponent("variant") == pytest.approx(0.17, abs=1e-5)
    compute = float(FLOPS[-1] * 10)
    assert math.exp(fit.log_multiplier("variant", compute).estimate) == pytest.approx(
        true_multiplier(compute), rel=1e-4
    )


def test_losses_without_a_floor_are_fitted_by_a_line() -> None:
    lines: dict[str, Law] = {
        "baseline": lambda c: 5 - 0.1 * math.log(c),
        "variant": lambda c: 4.9 - 0.1 * math.log(c),
    }
    fit = PowerLawFit(ladder(np.random.default_rng(0), 2, laws=lines, noise=1e-7), "baseline")
    assert fit.curvature.low < 0 < fit.curvature.high
    assert fit.log_multiplier("variant", FLOPS[4]).estimate == pytest.approx(1.0, abs=1e-3)  # 0.1 nats at 0.1 per log C


def simulate(n: int, n_seeds: int) -> dict[str, float]:
    """Return how often the intervals at the held-out size contain the truth, and how often a true law is rejected."""
    rng = np.random.default_rng(n_seeds)
    compute, factor = float(FLOPS[4]), float(FLOPS[4] / FLOPS[3])
    hits = {"multiplier": 0, "trend": 0, "prediction": 0, "rejected": 0}
    trend = 10 ** (EXPONENTS["variant"] / EXPONENTS["baseline"] - 1)
    for _ in range(n):
        measured = ladder(rng, n_seeds, n_sizes=5)
        fitted = [p for p in measured if p.flops < compute]
        held_out = [p for p in measured if p.flops == compute and p.variant == "variant"]
        fit = PowerLawFit(fitted, "baseline")
        result = analyse_ladder(fitted, "baseline", held_out=held_out, factors=[factor])
        multiplier = fit.log_multiplier("variant", compute)
        hits["multiplier"] += multiplier.low <= math.log(true_multiplier(compute)) <= multiplier.high
        interval = result.variants[1].trend
        assert interval is not None
        hits["trend"] += interval.low <= trend <= interval.high
        hits["prediction"] += result.held_out[0].inside
        hits["rejected"] += bool(result.unsupported)
    return {name: hits[name] / n for name in hits}


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [3, 5])
def test_intervals_at_a_held_out_size_cover_the_truth_in_1000_ladders(n_seeds: int) -> None:
    shares = simulate(1000, n_seeds)
    for name in ("multiplier", "trend", "prediction"):
        assert 0.92 <= shares[name] <= 0.97, (name, shares)
    assert shares["rejected"] <= 0.08, shares


@pytest.mark.slow
def test_intervals_at_a_held_out_size_cover_the_truth_in_100_ladders() -> None:
    """Bounds that a coverage of 0.92 to 0.97 fails with probability below 0.001."""
    shares = simulate(100, 3)
    assert min(shares["multiplier"], shares["trend"], shares["prediction"]) >= 0.84, shares
    assert shares["rejected"] <= 0.16, shares


def excess(c: float) -> float:
    return math.log(c / FLOPS[0])


MISSPECIFIED: dict[str, dict[str, Law]] = {
    "the variant bends down": {
        **LAWS,
        "variant": lambda c: FLOOR + (power_law("variant", c) - FLOOR) * (1 + (c / FLOPS[0] / 60) ** 2) ** -0.1,
    },
    "both bend down": {
        name: lambda c, law=law: FLOOR + (law(c) - FLOOR) * (1 + (c / FLOPS[0] / 60) ** 4) ** -0.08  # type: ignore[misc]
        for name, law in LAWS.items()
    },
    "the optimum of the variant drifts": {
        **LAWS,
        "variant": lambda c: power_law("variant", c) + 0.004 * excess(c) ** 2,
    },
    "the optimum of both drifts beyond a size": {
        name: lambda c, law=law: law(c) + 0.03 * max(excess(c) - 2.5, 0)  # type: ignore[misc]
        for name, law in LAWS.items()
    },
}


@pytest.mark.parametrize("laws", MISSPECIFIED.values(), ids=MISSPECIFIED)
def test_a_wrong_law_is_reported_and_not_extrapolated(laws: dict[str, Law]) -> None:
    rng = np.random.default_rng(7)
    results = [analyse_ladder(ladder(rng, 5, n_sizes=5, laws=laws), "baseline") for _ in range(20)]
    reported = [bool(result.unsupported) for result in results]
    assert sum(reported) >= 17
    for result in results:
        assert bool(result.unsupported) == (not result.variants[1].extrapolated)


def analysed(**changes: object) -> LadderAnalysis:
    return analyse_ladder(ladder(np.random.default_rng(1), 3, **changes), "baseline")  # type: ignore[arg-type]


def test_three_sizes_are_too_few_to_extrapolate() -> None:
    result = analysed(n_sizes=3)
    assert any("3 sizes" in reason for reason in result.unsupported)
    assert result.variants[1].extrapolated == ()
    assert len(result.variants[1].multipliers) == 3


def test_an_extrapolation_beyond_the_width_of_the_measured_range_is_left_out() -> None:
    points = ladder(np.random.default_rng(1), 3)
    result = analyse_ladder(points, "baseline", factors=[2.0, 1e6])
    assert [m.flops for m in result.variants[1].extrapolated] == pytest.approx([2 * FLOPS[3]])


def test_points_that_do_not_determine_a_law_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 sizes"):
        analysed(n_sizes=2)
    with pytest.raises(ValueError, match="at least two seeds"):
        PowerLawFit(ladder(np.random.default_rng(1), 1), "baseline")
    with pytest.raises(ValueError, match="baseline has 0"):
        PowerLawFit(ladder(np.random.default_rng(1), 3, laws={"variant": LAWS["variant"]}), "baseline")


def test_a_law_that_does_not_fall_is_not_extrapolated() -> None:
    flat: dict[str, Law] = {**LAWS, "variant": lambda c: 2.0}
    result = analyse_ladder(ladder(np.random.default_rng(2), 3, laws=flat), "baseline")
    assert result.unsupported
