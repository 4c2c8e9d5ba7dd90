"""The analysis of a scaling ladder: multipliers of variants, and if the laws support an extrapolation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from gptzoo.ablation.scaling.power_law import PowerLawFit, ScalingPoint, check_points
from gptzoo.ablation.scaling.result import (
    LACK_OF_FIT_LEVEL,
    Interval,
    LadderAnalysis,
    LawPoint,
    Multiplier,
    Point,
    Prediction,
    VariantScaling,
)

MIN_SIZES_TO_EXTRAPOLATE = 4  # with three, the lack of fit is hardly visible
_CURVE_POINTS = 17


def analyse_ladder(
    points: Sequence[ScalingPoint],
    baseline: str,
    *,
    held_out: Sequence[ScalingPoint] = (),
    factors: Iterable[float] = (10.0,),
    confidence: float = 0.95,
) -> LadderAnalysis:
    """Fit the laws to `points` and compare each variant with the baseline.

    `factors` are the extrapolations, as multiples of the largest fitted compute. `held_out` are points that the laws
    predict, and that do not take part in the fit. Raises ValueError if the points do not determine the laws.
    """
    check_points(points, baseline)
    fit = PowerLawFit(points, baseline)
    unsupported = tuple(_reasons_against(fit))
    floor = fit.irreducible
    supported = () if unsupported else tuple(factors)
    return LadderAnalysis(
        baseline=baseline,
        confidence=confidence,
        noise=fit.noise,
        noise_df=fit.noise_df,
        irreducible=floor if math.isfinite(floor) else None,
        lack_of_fit=fit.lack_of_fit,
        points=tuple(_point(p, residual) for p, residual in zip(fit.points, fit.residuals, strict=True)),
        variants=tuple(_scale_variant(fit, variant, supported, held_out, confidence) for variant in fit.variants),
        held_out=tuple(_predict(fit, point, confidence) for point in held_out if point.variant in fit.variants),
        unsupported=unsupported,
    )


def farthest_factor(smallest: float, largest: float) -> float:
    """Return how far beyond the largest compute the laws may extrapolate: as far as the measured range is wide."""
    return largest / smallest * (1 + 1e-9)


def _point(point: ScalingPoint, residual: float) -> Point:
    return Point(
        variant=point.variant,
        flops=point.flops,
        n_parameters=point.n_parameters,
        n_tokens=point.n_tokens,
        losses=point.losses,
        mean=point.mean,
        residual=residual,
    )


def _predict(fit: PowerLawFit, point: ScalingPoint, confidence: float) -> Prediction:
    predicted = fit.loss(point.variant, point.flops, confidence, n_seeds=len(point.losses))
    return Prediction(
        variant=point.variant,
        flops=point.flops,
        n_parameters=point.n_parameters,
        losses=point.losses,
        predicted=predicted,
        measured=point.mean,
        error=point.mean - predicted.estimate,
        inside=predicted.low <= point.mean <= predicted.high,
    )


def _scale_variant(
    fit: PowerLawFit, variant: str, factors: Sequence[float], held_out: Sequence[ScalingPoint], confidence: float
) -> VariantScaling:
    own = sorted(point.flops for point in fit.points if point.variant == variant)
    extrapolated = [factor * own[-1] for factor in factors if factor <= farthest_factor(own[0], own[-1])]
    end = max([own[-1], *extrapolated, *(point.flops for point in held_out if point.variant == variant)])
    is_baseline = variant == fit.baseline
    return VariantScaling(
        variant=variant,
        exponent=fit.exponent(variant) if math.isfinite(fit.irreducible) else None,
        curve=tuple(
            LawPoint(flops=flops, loss=fit.loss(variant, flops, confidence))
            for flops in np.geomspace(own[0], end, _CURVE_POINTS).tolist()
        ),
        multipliers=() if is_baseline else tuple(_multiplier(fit, variant, flops, confidence) for flops in own),
        trend=None if is_baseline else _trend(fit, variant, confidence),
        extrapolated=()
        if is_baseline
        else tuple(_multiplier(fit, variant, flops, confidence) for flops in extrapolated),
    )


def _trend(fit: PowerLawFit, variant: str, confidence: float) -> Interval:
    """Return the factor by which the multiplier changes for a factor of 10 in compute."""
    slope, decade = fit.trend(variant, confidence), math.log(10)
    return _exponentiated(Interval(estimate=slope.estimate * decade, low=slope.low * decade, high=slope.high * decade))


def _multiplier(fit: PowerLawFit, variant: str, flops: float, confidence: float) -> Multiplier:
    return Multiplier(flops=flops, multiplier=_exponentiated(fit.log_multiplier(variant, flops, confidence)))


def _exponentiated(interval: Interval) -> Interval:
    """Return the interval on the scale of factors. Beyond the largest float, it ends at infinity."""

    def power(value: float) -> float:
        return math.inf if value > 700 else math.exp(value)

    return Interval(estimate=power(interval.estimate), low=power(interval.low), high=power(interval.high))


def _reasons_against(fit: PowerLawFit) -> Iterator[str]:
    """Yield the reasons why the laws do not support an extrapolation."""
    for variant in fit.variants:
        n_sizes = len({point.flops for point in fit.points if point.variant == variant})
        if n_sizes < MIN_SIZES_TO_EXTRAPOLATE:
            yield f"{variant} has {n_sizes} sizes, and an extrapolation needs {MIN_SIZES_TO_EXTRAPOLATE}"
    if not fit.converged:
        yield "the fit did not converge"
    test = fit.lack_of_fit
    if test is not None and test.p_value < LACK_OF_FIT_LEVEL:
        yield (
            "the laws do not fit: the residuals are larger than the noise between seeds explains "
            f"(lack of fit: F({test.df[0]}, {test.df[1]}) = {test.statistic:.3g}, p = {test.p_value:.2g})"
        )
    if fit.curvature.high < 0:
        yield "the losses fall faster at every larger size, where a power law with a floor levels off"
    if fit.curvature.estimate > 0 and fit.irreducible > min(point.mean for point in fit.points):
        yield "the fitted irreducible loss lies above a measured loss"
    falling = [fit.falls(variant) for variant in fit.variants]
    if not all(falling):
        names = ", ".join(v for v, falls in zip(fit.variants, falling, strict=True) if not falls)
        yield f"the loss of {names} does not clearly fall with compute"
