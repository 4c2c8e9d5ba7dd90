"""The figures of a scaling ladder: loss, residuals and multipliers against training compute."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gptzoo.ablation.report.figures.figure import Figure, ScalingMark, ScalingPlot, ScalingSeries
from gptzoo.ablation.scaling.result import LadderAnalysis, Multiplier, VariantScaling
from gptzoo.ablation.scaling.sentences import format_factor
from gptzoo.ablation.wording import with_unit

_COMPUTE = "training FLOPs of one run"


def build_ladder_figures(analysis: LadderAnalysis, metric: str) -> list[Figure]:
    """Return the figures of a ladder whose laws are fitted."""
    level = f"{analysis.confidence:.0%}"
    figures: list[Figure] = [
        ScalingPlot(
            "loss",
            f"{metric} against training compute",
            f"Dots are runs. Lines are the fitted laws with {level} confidence bands; all have the same irreducible "
            "loss. Rings are means of held-out sizes, which the laws are not fitted to. Both axes are logarithmic.",
            _COMPUTE,
            with_unit(metric),
            [_losses(analysis, variant) for variant in analysis.variants],
            log_y=True,
        ),
        ScalingPlot(
            "residuals",
            "Residuals of the laws",
            "Mean loss minus that of the law. Bars are one standard error of the mean, from the standard deviation "
            "between seeds. A bend that the variants share, or residuals far larger than the bars, mean that the laws "
            "do not fit.",
            _COMPUTE,
            f"Δ {with_unit(metric)}",
            [_residuals(analysis, variant.variant) for variant in analysis.variants],
            reference=0.0,
        ),
    ]
    compared = [variant for variant in analysis.variants if variant.multipliers]
    if analysis.fits:
        figures.append(
            ScalingPlot(
                "multipliers",
                f"Effective compute multiplier over {analysis.baseline}",
                f"{analysis.baseline} needs this many times the training FLOPs to reach the loss of the variant. Above "
                f"1, the variant saves compute. Bars are {level} confidence intervals; rings are extrapolations. Both "
                "axes are logarithmic.",
                f"{_COMPUTE}, of the variant",
                "multiplier",
                [ScalingSeries(variant.variant, list(_multipliers(variant)), []) for variant in compared],
                reference=1.0,
                log_y=True,
            )
        )
    return figures


def _losses(analysis: LadderAnalysis, variant: VariantScaling) -> ScalingSeries:
    name = variant.variant
    marks = [
        ScalingMark(loss, p.flops, None, None, f"{p.n_parameters:,} parameters without embeddings: {loss:.4f}")
        for p in analysis.points
        if p.variant == name
        for loss in p.losses
    ]
    marks += [
        ScalingMark(
            p.measured,
            p.flops,
            p.predicted.low,
            p.predicted.high,
            f"held out: measured {p.measured:.4f}, predicted {p.predicted.estimate:.4f} "
            f"({p.predicted.low:.4f} to {p.predicted.high:.4f})",
            is_ring=True,
        )
        for p in analysis.held_out
        if p.variant == name
    ]
    curve = [(point.flops, point.loss.estimate, point.loss.low, point.loss.high) for point in variant.curve]
    return ScalingSeries(name, marks, curve)


def _residuals(analysis: LadderAnalysis, variant: str) -> ScalingSeries:
    marks = []
    for point in analysis.points:
        if point.variant == variant:
            error = analysis.noise / len(point.losses) ** 0.5
            text = f"{point.n_parameters:,} parameters without embeddings: {point.residual:+.4f}"
            low, high = point.residual - error, point.residual + error
            marks.append(ScalingMark(point.residual, point.flops, low, high, text))
    return ScalingSeries(variant, marks, [])


def _multipliers(variant: VariantScaling) -> Iterator[ScalingMark]:
    for multipliers, is_ring in ((variant.multipliers, False), (variant.extrapolated, True)):
        for multiplier in multipliers:
            if math.isfinite(multiplier.multiplier.estimate):
                yield _mark(multiplier, is_ring=is_ring)


def _mark(multiplier: Multiplier, *, is_ring: bool) -> ScalingMark:
    interval = multiplier.multiplier
    text = f"{multiplier.flops:.3g} FLOPs{', extrapolated' if is_ring else ''}: {format_factor(interval)}"
    high = interval.high if math.isfinite(interval.high) else None
    return ScalingMark(interval.estimate, multiplier.flops, interval.low, high, text, is_ring=is_ring)
