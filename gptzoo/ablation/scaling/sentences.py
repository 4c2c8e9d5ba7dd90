"""The result of a ladder as sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gptzoo.ablation.scaling.result import Interval, LadderAnalysis, Multiplier, Prediction, VariantScaling
from gptzoo.ablation.wording import quantity_of


def ladder_sentences(analysis: LadderAnalysis, factors: tuple[float, ...], metric: str) -> Iterator[str]:
    """Yield the findings on each variant, on the held-out sizes, and on the laws of a metric."""
    quantity = quantity_of(metric)
    for reason in analysis.unsupported:
        yield f"The fit does not support an extrapolation: {reason}."
    for variant in analysis.variants:
        if variant.trend is not None:
            yield " ".join(_variant_sentences(variant, analysis, factors))
    for prediction in analysis.held_out:
        yield _prediction_sentence(prediction, analysis, quantity)
    floor = analysis.irreducible
    yield (
        f"Standard deviation between seeds: {analysis.noise:.4g} {quantity} ({analysis.noise_df} degrees of freedom). "
        + ("The losses show no floor." if floor is None else f"Irreducible loss of the fit: {floor:.4g} {quantity}.")
    )


def format_factor(interval: Interval) -> str:
    """Format a factor with its interval: "1.12x (0.980 to 1.27)"."""
    estimate, low, high = (f"{n:#.3g}".rstrip(".") for n in (interval.estimate, interval.low, interval.high))
    return f"{estimate}x ({low} to {high})"


def _variant_sentences(variant: VariantScaling, analysis: LadderAnalysis, factors: tuple[float, ...]) -> Iterator[str]:
    trend = variant.trend
    assert trend is not None
    level = f"{analysis.confidence:.0%}"
    largest = variant.multipliers[-1]
    if not analysis.fits:
        yield f"{variant.variant}: the laws do not fit, so its effective compute multiplier is not known."
        return
    yield (
        f"{variant.variant}: effective compute multiplier over {analysis.baseline} {format_factor(largest.multiplier)} "
        f"at the largest fitted size ({level} interval)."
    )
    per_decade = f"{format_factor(trend)} per factor of 10 in compute"
    if trend.high < 1:
        yield f"It shrinks with size, by {per_decade}."
    elif trend.low > 1:
        yield f"It grows with size, by {per_decade}."
    else:
        yield f"The ladder cannot tell if it grows or shrinks with size: {per_decade}."
    if not analysis.unsupported:
        yield from _extrapolations(variant, largest, factors)


def _extrapolations(variant: VariantScaling, largest: Multiplier, factors: tuple[float, ...]) -> Iterator[str]:
    for factor in factors:
        reached = [m for m in variant.extrapolated if math.isclose(m.flops, factor * largest.flops)]
        if reached:
            yield f"At {factor:g}x: {format_factor(reached[0].multiplier)}."
        else:
            width = largest.flops / variant.multipliers[0].flops
            yield f"At {factor:g}x: not supported, because the fitted sizes cover only a factor of {width:.3g}."


def _prediction_sentence(prediction: Prediction, analysis: LadderAnalysis, quantity: str) -> str:
    p = prediction.predicted
    place = "inside" if prediction.inside else "OUTSIDE"
    return (
        f"{prediction.variant}, held out, {prediction.n_parameters:,} parameters without embeddings: predicted "
        f"{p.estimate:.4f} {quantity} ({p.low:.4f} to {p.high:.4f}), measured {prediction.measured:.4f}, off by "
        f"{prediction.error:+.4f}: {place} the {analysis.confidence:.0%} prediction interval."
    )
