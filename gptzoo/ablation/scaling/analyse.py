"""The analysis of a scaling ladder: multipliers of variants, and if the laws support an extrapolation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gptzoo.ablation.scaling.power_law import FTest, Interval, PowerLawFit, ScalingPoint, check_points

MIN_SIZES_TO_EXTRAPOLATE = 4  # with three, the lack of fit is hardly visible
_LEVEL = 0.05  # of the lack-of-fit test


@dataclass(frozen=True)
class Multiplier:
    """The effective compute multiplier of a variant at some training compute.

    The baseline needs `multiplier` times the compute to reach the loss that the law of the variant has there.
    """

    flops: float
    multiplier: Interval


@dataclass(frozen=True)
class Prediction:
    """The predicted mean loss of a held-out size, with its prediction interval, beside the measured one."""

    variant: str
    flops: float
    n_parameters: int
    predicted: Interval
    measured: float

    @property
    def error(self) -> float:
        """The measured minus the predicted loss."""
        return self.measured - self.predicted.estimate

    @property
    def inside(self) -> bool:
        """True if the measured loss lies inside the prediction interval."""
        return self.predicted.low <= self.measured <= self.predicted.high


@dataclass(frozen=True)
class Residual:
    """The mean loss of a point, and how far it is above its law."""

    variant: str
    flops: float
    n_parameters: int
    n_tokens: int
    losses: tuple[float, ...]
    residual: float


@dataclass(frozen=True)
class VariantScaling:
    """The law of one variant, and its multipliers over the baseline."""

    variant: str
    exponent: float | None  # None without a floor, where the law is a straight line in log C
    multipliers: tuple[Multiplier, ...]  # at each fitted size; empty for the baseline
    trend: Interval | None  # factor of the multiplier per factor of 10 in compute; None for the baseline
    extrapolated: tuple[Multiplier, ...]  # empty for the baseline, and where the laws do not support it


@dataclass(frozen=True)
class LadderAnalysis:
    """The fitted laws of a ladder."""

    baseline: str
    confidence: float
    noise: float  # standard deviation between seeds, pooled over sizes and variants
    noise_df: int
    irreducible: float | None  # None if the losses do not show a floor
    lack_of_fit: FTest | None
    residuals: tuple[Residual, ...]
    variants: tuple[VariantScaling, ...]
    held_out: tuple[Prediction, ...]
    unsupported: tuple[str, ...]  # reasons why the laws do not support any extrapolation


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
    return LadderAnalysis(
        baseline=baseline,
        confidence=confidence,
        noise=fit.noise,
        noise_df=fit.noise_df,
        irreducible=floor if math.isfinite(floor) else None,
        lack_of_fit=fit.lack_of_fit,
        residuals=tuple(
            Residual(p.variant, p.flops, p.n_parameters, p.n_tokens, p.losses, residual)
            for p, residual in zip(fit.points, fit.residuals, strict=True)
        ),
        variants=tuple(
            _scale_variant(fit, variant, () if unsupported else tuple(factors), confidence) for variant in fit.variants
        ),
        held_out=tuple(
            Prediction(
                p.variant,
                p.flops,
                p.n_parameters,
                fit.loss(p.variant, p.flops, confidence, n_seeds=len(p.losses)),
                p.mean,
            )
            for p in held_out
        ),
        unsupported=unsupported,
    )


def _scale_variant(fit: PowerLawFit, variant: str, factors: Sequence[float], confidence: float) -> VariantScaling:
    exponent = fit.exponent(variant) if math.isfinite(fit.irreducible) else None
    if variant == fit.baseline:
        return VariantScaling(variant, exponent, (), None, ())
    own = sorted(point.flops for point in fit.points if point.variant == variant)
    slope = fit.trend(variant, confidence)
    decade = math.log(10)
    return VariantScaling(
        variant=variant,
        exponent=exponent,
        multipliers=tuple(_multiplier(fit, variant, flops, confidence) for flops in own),
        trend=_exponentiated(Interval(slope.estimate * decade, slope.low * decade, slope.high * decade)),
        extrapolated=tuple(
            _multiplier(fit, variant, factor * own[-1], confidence)
            for factor in factors
            if factor <= farthest_factor(own[0], own[-1])
        ),
    )


def farthest_factor(smallest: float, largest: float) -> float:
    """Return how far beyond the largest compute the laws may extrapolate: as far as the measured range is wide."""
    return largest / smallest * (1 + 1e-9)


def _multiplier(fit: PowerLawFit, variant: str, flops: float, confidence: float) -> Multiplier:
    return Multiplier(flops, _exponentiated(fit.log_multiplier(variant, flops, confidence)))


def _exponentiated(interval: Interval) -> Interval:
    """Return the interval on the scale of factors. Beyond the largest float, it ends at infinity."""
    ends = (math.inf if end > 700 else math.exp(end) for end in (interval.estimate, interval.low, interval.high))
    return Interval(*ends)


def _reasons_against(fit: PowerLawFit) -> Iterator[str]:
    """Yield the reasons why the laws do not support an extrapolation."""
    for variant in fit.variants:
        n_sizes = len({point.flops for point in fit.points if point.variant == variant})
        if n_sizes < MIN_SIZES_TO_EXTRAPOLATE:
            yield f"{variant} has {n_sizes} sizes, and an extrapolation needs {MIN_SIZES_TO_EXTRAPOLATE}"
    if not fit.converged:
        yield "the fit did not converge"
    test = fit.lack_of_fit
    if test is not None and test.p_value < _LEVEL:
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
